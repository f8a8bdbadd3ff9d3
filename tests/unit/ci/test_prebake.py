"""The GitHub Action and the GitLab component: checked by their schemas, and their steps run."""

from __future__ import annotations

import re

from tests.support.prebake_cases import ACTION, ACTION_FILE, ROOT, WORKFLOWS


def test_step_texts_contain_no_inputs() -> None:
    assert [step["run"] for step in ACTION["runs"]["steps"] if "${{" in step.get("run", "")] == []


def test_requirements_of_the_action_are_the_tested_ones() -> None:
    def pins(name: str) -> set[str]:
        return set(
            re.findall(r"^\S+==\S+", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        )

    assert pins("requirements.txt") <= pins("requirements-dev.txt")
    assert pins("requirements-uv.txt") <= pins("requirements.txt")


def test_actions_are_pinned_by_digest_with_their_version() -> None:
    """A tag can be moved to other code; a digest cannot."""
    steps = [
        line
        for path in (ACTION_FILE, *WORKFLOWS)
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses:" in line and "uses: ./" not in line
    ]
    assert len(steps) > 5
    pin = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
    assert [step for step in steps if not pin.search(step)] == []
