# expect: 2|3 ours
# /// script
# dependencies = ["attrs"]
#
# [tool.uv.sources]
# attrs = { index = "ours" }
# ///

