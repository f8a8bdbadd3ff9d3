# expect: 0
# /// script
# requires-python = ">=3.12.0,<3.13,!=3.12.99"
# dependencies = ["attrs"]
# ///
import attr
