# expect: 2 python_verson|marker
# /// script
# dependencies = ["attrs; python_verson < '3'"]
# ///

