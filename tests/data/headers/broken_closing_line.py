# expect: 2 line 5 must be exactly
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
# /// script
import attrs
