# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["rich==13.7.0"]
#
# [tool.uv]
# override-dependencies = ["markdown-it-py==2.2.0"]
# ///
import markdown_it

assert markdown_it.__version__ == "2.2.0"
