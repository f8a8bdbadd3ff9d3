# expect: 2 dependencies
# /// script
# dependencies = "attrs"
# ///

