# expect: 0
#!/usr/bin/env -S uv run --script
# -*- coding: utf-8 -*-
"""A script that starts itself."""

from __future__ import annotations

# /// script
# requires-python = ">=3.11"
# dependencies = ["rich"]
# ///
import rich
