from __future__ import annotations

import pytest

from offline_bundle.builder.inputs.imports import imported_modules, likely_package


def test_imports_have_their_first_lines_and_no_standard_library() -> None:
    source = b"import os, numpy.linalg\nfrom PIL import Image\n\ndef f():\n    import yaml\n    import PIL\n"
    assert imported_modules(source) == {"numpy.linalg": 1, "PIL": 2, "yaml": 5}


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import scipy\nexcept ImportError:\n    scipy = None\n",
        "try:\n    import scipy\nexcept (OSError, ModuleNotFoundError):\n    pass\n",
        "try:\n    import scipy\nexcept:\n    pass\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import scipy\n",
        "from . import scipy\nfrom .scipy import x\n",
        "import json, tomllib\nfrom collections.abc import Mapping\n",
        'pattern = "\\d"\nassert (1, "always true")\n',
        "this is not Python",
        "x = " + "(" * 500 + ")" * 500,
    ],
)
def test_imports_that_a_bundle_need_not_provide_are_left_out(source: str) -> None:
    assert imported_modules(source.encode()) == {}


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import scipy\nexcept OSError:\n    pass\n",
        "try:\n    pass\nexcept ImportError:\n    import scipy\n",
        "import sys\nif sys.version_info > (3, 11):\n    import scipy\n",
        "match 1:\n    case 1:\n        import scipy\n",
        "with open('x'):\n    from scipy import stats\n",
    ],
)
def test_imports_in_any_other_statement_count(source: str) -> None:
    assert set(imported_modules(source.encode())) == {"scipy"}


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("sklearn.cluster", "scikit-learn"),
        ("cv2", "opencv-python"),
        ("PIL.Image", "pillow"),
        ("yaml", "pyyaml"),
        ("google.protobuf.message", "protobuf"),
        ("ansys.mapdl.core", "ansys-mapdl-core"),
        ("numpy", None),
        ("google.cloud", None),
    ],
)
def test_likely_package_of_a_module(module: str, package: str | None) -> None:
    assert likely_package(module) == package
