# expect: 2 not closed; line \d does not begin
# /// script
# dependencies = ["attrs"]

import attr
