# expect: 2 UTF-8|utf-8
# /// script
# dependencies = ["attrs"]  # naïve
# ///
