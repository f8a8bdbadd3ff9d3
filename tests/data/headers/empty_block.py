# expect: 0
# /// script
# ///
print("an empty block")
