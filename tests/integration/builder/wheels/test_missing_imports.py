"""Imports against what the wheels and the folder of a script provide, in a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.distributions import make_wheel
from tests.support.pipeline_cases import Factory, factory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["factory"]

BODY = """import os
import leaf
import sklearn
import helper, data.tables
from top_module import x
import ansys.dpf.core
try:
    import optional
except ImportError:
    pass
"""


def test_imports_that_nothing_provides_are_notes_or_an_error(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    make_wheel(packages, "odd-name", files={"top_module.py": ""})
    make_wheel(packages, "ansys-mapdl", files={"ansys/mapdl/__init__.py": ""})
    script = factory.script("leaf", "odd-name", "ansys-mapdl", body=BODY)
    (factory.folder / "helper.py").touch()
    (factory.folder / "data").mkdir()
    expected = [
        f"{script}:7: imports sklearn, which no package of its header provides; "
        "add scikit-learn to its dependencies",
        f"{script}:10: imports ansys.dpf.core, which no package of its header provides; "
        "add ansys-dpf-core to its dependencies",
    ]
    text = factory.fails(InputError, script, strict_imports=True)
    assert all(line in text for line in expected)
    assert not (factory.bundle / "bundle.json").exists()
    notes = factory.build(script).notes
    assert [note for note in notes if "which no package" in note] == expected
    script.write_text(script.read_text().replace("import sklearn\n", "").replace("dpf", "mapdl"))
    assert factory.build(script, strict_imports=True).changed
