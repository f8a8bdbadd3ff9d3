"""README: its example runs, its links lead somewhere, and its options exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import shell_blocks, type_in
from tests.support.readme_cases import README, TEXT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.registry
def test_first_example_runs(tmp_path: Path) -> None:
    [header] = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert header.startswith("# eval.py\n# /// script\n")
    (tmp_path / "eval.py").write_text(
        header + "import numpy\nprint('sum', numpy.arange(4).sum())\n"
    )
    [example] = shell_blocks(README)
    done = type_in([example.replace("/shared/bundle", "shared/bundle")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("sum 6\n")
