# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
# ///
import attr
