# expect: 0
# /// script
# requires-python = ">=3.10,<3.11"
# dependencies = ["numpy<2.3", "tomli"]
# ///
import sys

import numpy
import tomli

assert sys.version_info[:2] == (3, 10)
