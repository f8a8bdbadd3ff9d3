# expect: 2 broken_setting_unknown.py:8: .*`exclude-newr` in
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
#
# [tool.uv]
# index-strategy = "first-index"
# exclude-newr = "2024-01-01T00:00:00Z"
# ///
import attrs
