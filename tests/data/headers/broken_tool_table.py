# expect: 2 py:6: .*`index` in
# /// script
# dependencies = []
#
# [tool.uv]
# index = "nowhere"
# ///

