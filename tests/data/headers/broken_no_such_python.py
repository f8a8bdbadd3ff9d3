# expect: 2 3.99
# /// script
# requires-python = ">=3.99"
# dependencies = []
# ///

