# expect: 0
# /// script
# requires-python = ">=3.11"
# # why these: the report needs them
# dependencies = [
#   "rich",       # for tables
#   'click >= 8', # single quotes, blanks inside
#
#   "attrs",
# ]
# ///
import attr
import click
import rich
