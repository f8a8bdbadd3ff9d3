# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["neighbour"]
#
# [tool.uv.sources]
# neighbour = { path = "./neighbour", editable = true }
# ///
import neighbour

assert neighbour.ANSWER == 42
