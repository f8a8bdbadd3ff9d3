# expect: 0
# flags: --allow-build odfpy
# /// script
# requires-python = ">=3.11"
# dependencies = ["pandas[excel]", "tabulate"]
# ///
import openpyxl
import pandas

assert len(pandas.DataFrame({"a": [1, 2]})) == 2
