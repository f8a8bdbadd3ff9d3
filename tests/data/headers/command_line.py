# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["typer>=0.12", "rich>=13,<16"]
# ///
import rich.table
import typer
