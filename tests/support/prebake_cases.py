"""Shared by the unit and integration tests: The GitHub Action and the GitLab component: checked by
their schemas, and their steps run.
"""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


ACTION_FILE = ROOT / "action.yml"


ACTION = yaml.safe_load(ACTION_FILE.read_text(encoding="utf-8"))


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
