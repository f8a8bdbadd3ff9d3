# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["attrs", "iniconfig"]
#
# [[tool.uv.dependency-metadata]]
# name = "iniconfig"
# requires-dist = []
# ///
import iniconfig
