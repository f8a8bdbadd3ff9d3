# expect: 2 not closed; line \d is
# /// script
# dependencies = [
"attrs",
# ]
# ///
