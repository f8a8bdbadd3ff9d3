# expect: 2 dependencies|TOML
# /// script
# dependencies = []
# dependencies = ["attrs"]
# ///

