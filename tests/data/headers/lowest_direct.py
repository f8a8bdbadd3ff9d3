# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["click>=8.1.3"]
#
# [tool.uv]
# resolution = "lowest-direct"
# ///
import click

assert click.__version__ == "8.1.3"
