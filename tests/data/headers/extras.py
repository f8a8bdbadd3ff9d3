# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["httpx[http2,socks]>=0.27"]
# ///
import h2
import httpx
import socksio
