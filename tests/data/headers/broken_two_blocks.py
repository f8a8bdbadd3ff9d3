# expect: 2 two|twice|second|more than one
# /// script
# dependencies = ["attrs"]
# ///

# /// script
# dependencies = ["click"]
# ///
