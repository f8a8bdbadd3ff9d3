# expect: 2 dependencies
# /// script
# dependencies = ["attrs", 3]
# ///

