from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.builder.inputs import script_targets
from offline_bundle.builder.inputs.scripts import Script, read_script
from offline_bundle.builder.inputs.targets import make_target

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def script(folder: Path, header: str) -> Script:
    path = folder / "eval.py"
    path.write_text(
        "# /// script\n" + "".join(f"# {line}\n" for line in header.splitlines()) + "# ///\n"
    )
    return read_script(path)


def older(read: Script, python: str) -> list[str]:
    target = make_target(python, "x86_64-manylinux_2_28")
    return [other.name for other in script_targets.older_pythons(read, target)]


def test_older_pythons_are_those_here_that_the_script_admits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        script_targets, "_is_installed", {"3.13", "3.11", "3.10", "3.8"}.__contains__
    )
    names = ["cp311-x86_64-manylinux_2_28", "cp310-x86_64-manylinux_2_28"]
    assert older(script(tmp_path, 'requires-python = ">=3.9"'), "3.13") == names
    assert older(script(tmp_path, 'requires-python = "==3.13.*"'), "3.13") == []
    assert older(script(tmp_path, 'requires-python = ">=3.9"'), "3.13t") == []
    assert older(script(tmp_path, 'dependencies = ["a @ ./a"]'), "3.13") == []
