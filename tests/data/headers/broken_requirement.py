# expect: 2 num py
# /// script
# dependencies = ["attrs", "num py>=1", "=>2"]
# ///

