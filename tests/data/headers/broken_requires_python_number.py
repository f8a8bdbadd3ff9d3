# expect: 2 requires-python
# /// script
# requires-python = 3.12
# dependencies = []
# ///

