# expect: 2 three
# /// script
# requires-python = "three"
# dependencies = []
# ///

