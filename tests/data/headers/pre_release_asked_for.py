# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["black==24.1a1"]
# ///
import black

assert black.__version__ == "24.1a1"
