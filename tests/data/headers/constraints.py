# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["rich"]
#
# [tool.uv]
# constraint-dependencies = ["pygments<2.18", "rich<14"]
# ///
import pygments

assert pygments.__version__ < "2.18"
