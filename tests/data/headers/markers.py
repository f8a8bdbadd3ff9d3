# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "tomli; python_version < '3.11'",
#   "pywin32; sys_platform == 'win32'",
#   "colorama>=0.4; platform_system == 'Linux' and implementation_name == 'cpython'",
# ]
# ///
import importlib.util

import colorama

assert importlib.util.find_spec("tomli") is None
