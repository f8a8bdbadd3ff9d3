# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["pydantic<2"]
#
# [tool.uv]
# prerelease = "allow"
# ///
import pydantic
