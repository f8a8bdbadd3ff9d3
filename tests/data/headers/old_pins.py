# expect: 0
# /// script
# requires-python = ">=3.9"
# dependencies = ["pandas==1.5.3", "numpy<2"]
# ///
import pandas as pd

assert pd.DataFrame({"a": [1, 2]})["a"].sum() == 3
assert pd.__version__ == "1.5.3"
