# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs==21.1.0"]
# ///
import attr
