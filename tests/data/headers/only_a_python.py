# expect: 0
# /// script
# requires-python = ">=3.11"
# ///
import sys

assert sys.version_info >= (3, 11)
