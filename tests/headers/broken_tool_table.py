# expect: 2|3 index
# /// script
# dependencies = []
#
# [tool.uv]
# index = "nowhere"
# ///

