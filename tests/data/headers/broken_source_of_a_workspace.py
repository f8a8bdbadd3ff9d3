# expect: 3 attrs.*workspace
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
# [tool.uv.sources]
# attrs = { workspace = true }
# ///
import attrs
