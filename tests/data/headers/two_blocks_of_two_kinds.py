# expect: 0
# /// pyproject
# [project]
# name = "other"
# ///

# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
# ///
import attr
