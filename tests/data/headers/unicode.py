# expect: 0
# /// script
# requires-python = ">=3.11"
# # größer, schneller, 速い
# dependencies = ["attrs"]  # naïve
# ///
import attr

print("größer")
