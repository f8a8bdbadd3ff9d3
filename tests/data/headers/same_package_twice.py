# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["NumPy", "numpy<2.4", "numpy>=2"]
# ///
import numpy

assert numpy.__version__ < "2.4"
