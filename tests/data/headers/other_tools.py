# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs"]
#
# [tool.black]
# line-length = 100
#
# [tool.ruff.lint]
# select = ["ALL"]
#
# [tool.something-of-ours]
# key = [1, 2.5, 2024-01-01, { a = true }]
# ///
import attr
