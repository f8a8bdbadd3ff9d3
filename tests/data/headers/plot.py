# expect: 0
# /// script
# requires-python = "==3.12"
# dependencies = ["numpy", "matplotlib"]
# ///
import matplotlib.pyplot
import numpy as np

assert np.arange(3).sum() == 3
