# expect: 0
# /// script
# dependencies = ["attrs"]
# requires-python = ">=3.11"
# ///