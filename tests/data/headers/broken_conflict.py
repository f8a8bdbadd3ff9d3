# expect: 3 markdown-it-py
# /// script
# requires-python = ">=3.11"
# dependencies = ["rich==13.7.0", "markdown-it-py<2"]
# ///

