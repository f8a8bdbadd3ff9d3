# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["packaging~=24.1"]
# ///
import packaging

assert packaging.__version__.startswith("24.")
