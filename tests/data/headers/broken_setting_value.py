# expect: 2 py:6: .*`exclude-newer` in
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
# [tool.uv]
# exclude-newer = "last spring"
# ///
import attrs
