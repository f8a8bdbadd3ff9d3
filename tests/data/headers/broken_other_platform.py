# expect: 3 pywin32
# /// script
# requires-python = ">=3.11"
# dependencies = ["pywin32"]
# ///

