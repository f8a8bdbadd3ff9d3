# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "attrs",
#   "click",
#   "rich",
#   "idna",
#   "certifi",
#   "packaging",
#   "platformdirs",
#   "filelock",
#   "tqdm",
#   "tabulate",
#   "more-itertools",
#   "sortedcontainers",
#   "toolz",
#   "cloudpickle",
#   "dill",
#   "psutil",
#   "networkx",
#   "sympy",
#   "cycler",
#   "kiwisolver",
#   "fonttools",
#   "pyparsing",
#   "python-dateutil",
#   "pytz",
#   "tzdata",
# ]
# ///
import networkx
import sympy
import tqdm
