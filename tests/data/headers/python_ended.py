# expect: 0
# flags: --python-version 3.13
# /// script
# requires-python = ">=3.12"
# dependencies = ["dicekit==0.3.0"]
# [tool.uv]
# exclude-dependencies = ["marimo", "hastyplot", "pandas"]
# ///
import importlib.metadata

assert importlib.metadata.metadata("dicekit")["Requires-Python"] == "<3.13,>=3.12"
