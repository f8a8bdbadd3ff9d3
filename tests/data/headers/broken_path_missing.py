# expect: 2|3|4 neighbor
# /// script
# dependencies = ["neighbor"]
#
# [tool.uv.sources]
# neighbor = { path = "neighbor" }
# ///

