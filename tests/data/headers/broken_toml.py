# expect: 2 TOML|toml
# /// script
# dependencies = ["attrs"
# ///

