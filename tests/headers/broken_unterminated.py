# expect: 2 empty or not closed
# /// script
# dependencies = ["attrs"]

import attr
