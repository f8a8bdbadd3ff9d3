# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["requests==2.31.0", "urllib3==2.2.1", "idna==3.7"]
# ///
import requests

assert requests.__version__ == "2.31.0"
