"""Shared by the unit and integration tests: Rules that import-linter cannot hold: see the contracts
in pyproject.toml for the layers.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


"""Provided by the evaluator of HPS, and by the bundle in which the shim is."""
