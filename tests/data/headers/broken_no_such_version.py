# expect: 3 attrs
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs==999"]
# ///

