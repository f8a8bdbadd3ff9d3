"""Shared by the unit and integration tests: `offline-bundle demo`: in short here, and from an
installed wheel where the index may be asked.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
