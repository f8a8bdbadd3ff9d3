# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["click"]
#
# [tool.uv]
# exclude-newer = "2024-01-01T00:00:00Z"
# ///
import click

assert click.__version__ == "8.1.7"
