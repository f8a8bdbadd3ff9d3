# expect: 3 attrs @ git\+https://git.invalid/attrs@25.1.0 cannot be read
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
# [tool.uv.sources]
# attrs = { git = "https://git.invalid/attrs", tag = "25.1.0" }
# ///
import attrs
