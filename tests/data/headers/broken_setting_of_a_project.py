# expect: 2 py:6: .*`environments` in .*unknown field
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
# [tool.uv]
# environments = ["sys_platform == 'linux'"]
# ///
import attrs
