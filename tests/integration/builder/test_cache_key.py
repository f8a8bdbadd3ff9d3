"""`show --key`: the same key for the same inputs, wherever and whenever, and without a network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.distributions import make_wheel
from tests.support.pipeline_cases import Factory

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.index_server import IndexServer
from tests.support.cache_key_cases import key, show


def test_a_bundle_has_a_key_of_its_content(
    tmp_path: Path, index: IndexServer, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    factory, other = Factory(tmp_path, index), Factory(tmp_path, index)
    other.bundle = tmp_path / "other"
    factory.build(factory.script("leaf", body="print()\n"))
    factory.build(factory.script("leaf"))
    other.build(other.script("leaf"))
    assert factory.manifest.generation == 2
    assert (
        key(tmp_path, "bundle")
        == key(tmp_path, "other")
        == json.loads(show(tmp_path, "other", "--key", "--json").out)["key"]
    )
    make_wheel(packages, "leaf", "2.0")
    other.build(other.script("leaf"))
    assert key(tmp_path, "bundle") != key(tmp_path, "other")


def test_files_for_a_header_decide_the_key(tmp_path: Path) -> None:
    (tmp_path / "eval.py").write_text("import leaf\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "study"\nversion = "1"\ndependencies = ["leaf"]\n'
    )
    requirements = tmp_path / "requirements.txt"
    keys = set()
    for text in ("leaf\n", "leaf<2\n"):
        requirements.write_text(text)
        line = ("eval.py", "--requirements", "requirements.txt")
        keys.add(key(tmp_path, *line))
        assert key(tmp_path, *line) in keys
    keys.add(key(tmp_path, "eval.py", "--project", "."))
    (tmp_path / "uv.lock").write_text("version = 1\n")  # not read: that may need a network
    keys.add(key(tmp_path, "eval.py", "--project", "."))
    assert len(keys) == 4
