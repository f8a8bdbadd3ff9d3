# expect: 2 empty or not closed
# /// script
# ///
print("an empty block")
