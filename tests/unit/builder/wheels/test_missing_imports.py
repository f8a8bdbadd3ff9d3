from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.wheels.missing_imports import wheel_modules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("names", "modules"),
    [
        (["sklearn/__init__.py", "scikit_learn-1.dist-info/METADATA"], {"sklearn"}),
        (["six.py", "six-1.dist-info/RECORD"], {"six"}),
        (
            ["_cffi_backend.cpython-312-x86_64-linux-gnu.so", "cffi/__init__.py"],
            {"_cffi_backend", "cffi"},
        ),
        (["ansys/dpf/core/__init__.py", "ansys/dpf/gate/x.py"], {"ansys.dpf"}),
        (["google/protobuf/__init__.py"], {"google.protobuf"}),
        (["numpy/__init__.py", "numpy.libs/libopenblas.so", "numpy/x/y.py"], {"numpy"}),
        (["x-1.data/purelib/pack/__init__.py", "x-1.data/scripts/run"], {"pack"}),
        (["x-1.data/platlib/fast.so"], {"fast"}),
        (["vtk.py", "vtkmodules/__init__.py", "vtkmodules/a.so"], {"vtk", "vtkmodules"}),
        (["README", "folder/"], set()),
    ],
)
def test_modules_of_a_wheel_are_those_of_its_files(
    names: list[str], modules: set[str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        for name in names:
            wheel.writestr(name, "")
    assert wheel_modules(tmp_path / "x.whl") == modules
