# expect: 3 numpy
# /// script
# requires-python = "==3.9.*"
# dependencies = ["numpy>=2.3"]
# ///

