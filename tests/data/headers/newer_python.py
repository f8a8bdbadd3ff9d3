# expect: 0
# /// script
# requires-python = ">=3.13"
# dependencies = ["numpy"]
# ///
import sys

import numpy

assert sys.version_info[:2] >= (3, 13)
