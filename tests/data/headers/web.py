# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.110", "uvicorn[standard]", "jinja2"]
# ///
import fastapi
import jinja2
import uvicorn
