# expect: 0
# flags: --allow-build docopt
# /// script
# requires-python = ">=3.11"
# dependencies = ["docopt==0.6.2"]
# ///
import docopt

assert docopt.__version__ == "0.6.2"
