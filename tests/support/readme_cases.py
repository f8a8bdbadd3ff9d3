"""Shared by the unit and integration tests: README: its example runs, its links lead somewhere, and
its options exist.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


README = ROOT / "README.md"


TEXT = README.read_text(encoding="utf-8")
