"""Modules beside a script must be inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.job_files.inputs import plan_inputs
from offline_bundle.runner.job_files.local_modules import check_local_modules
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import helper, json, numpy, sys
from package.part import x
from space import module
from typing import TYPE_CHECKING
try:
    import random
except ImportError:
    pass
if TYPE_CHECKING:
    import typed
def later():
    import lazy
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "eval.py": SCRIPT,
        "helper.py": "import second, eval",
        "second.py": "",
        "package/__init__.py": "",
        "package/part.py": "from . import other\nimport third\n",
        "third.py": "not python (",
        "space/module.py": "",
        "lazy.py": "",
        "typed.py": "",
        "json/readme.txt": "",
        "sys.py": "",
        "unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(folder: Path, *inputs: str) -> None:
    script = folder / "eval.py"
    files, _ = plan_inputs(script, [folder / name for name in inputs])
    check_local_modules(script, files)


def test_all_local_modules_are_offered_at_once(folder: Path) -> None:
    with pytest.raises(InputError, match=r"eval\.py imports files beside it") as raised:
        check(folder)
    assert set(raised.value.problems) == {
        "eval.py imports helper.py",
        "eval.py imports lazy.py",
        "eval.py imports package",
        "eval.py imports space",
        "helper.py imports second.py",
        "part.py imports third.py",
    }
    names = ("helper.py", "lazy.py", "package", "second.py", "space", "third.py")
    assert raised.value.hint == "add " + " ".join(f"--input {name}" for name in names)
    check(folder, *names)


def test_one_module_is_one_line(folder: Path) -> None:
    given = ("lazy.py", "package", "second.py", "space", "third.py")
    with pytest.raises(InputError, match=r"^eval\.py imports helper\.py$") as raised:
        check(folder, *given)
    assert raised.value.hint == "add --input helper.py"


def test_a_local_module_hides_a_standard_one(folder: Path) -> None:
    (folder / "random.py").write_text("")
    with pytest.raises(InputError, match=r"eval\.py imports random\.py"):
        check(folder, "helper.py", "lazy.py", "package", "second.py", "space", "third.py")
