"""Which wheel a target gets, held against uv's own choice for it, over packages that have wheels of
every kind.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.inputs.scripts import read_script
from offline_bundle.builder.inputs.targets import make_target
from offline_bundle.builder.resolve import free_threaded
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.select import select_artifacts
from offline_bundle.builder.resolve.uv import UvResolver
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = (
    "aiohttp", "bcrypt", "cffi", "contourpy", "coverage", "cryptography", "cython", "fonttools", "frozenlist",
    "greenlet", "grpcio", "h5py", "httptools", "kiwisolver", "lxml", "markupsafe", "matplotlib", "msgpack", "multidict",
    "numpy", "orjson", "pandas", "pillow", "polars", "protobuf", "psutil", "pyarrow", "pydantic-core", "pynacl",
    "pyproj", "pyyaml", "pyzmq", "regex", "rpds-py", "safetensors", "scikit-learn", "scipy", "shapely", "simplejson",
    "sqlalchemy", "tokenizers", "tornado", "ujson", "wrapt", "xxhash", "yarl", "zstandard",
)  # fmt: skip
TARGETS = (
    "3.12 x86_64-manylinux_2_17", "3.12 x86_64-manylinux_2_28", "3.12 x86_64-manylinux_2_40",
    "3.12 aarch64-manylinux_2_17", "3.12 x86_64-unknown-linux-musl", "3.12 aarch64-unknown-linux-musl",
    "3.12 aarch64-apple-darwin", "3.12 x86_64-apple-darwin", "3.12 x86_64-pc-windows-msvc",
    "3.12 aarch64-pc-windows-msvc", "3.10 x86_64-manylinux_2_28", "3.14 x86_64-manylinux_2_28",
    "3.14t x86_64-manylinux_2_28", "3.14t aarch64-apple-darwin", "3.14t x86_64-pc-windows-msvc",
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.registry]


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_wheels_as_uv_takes(name: str, tmp_path: Path) -> None:
    target = make_target(*name.split())
    resolver = UvResolver(find_uv(), ResolveOptions(), Credentials())
    wanted = list(PACKAGES)
    script = tmp_path / "job.py"
    while True:
        script.write_text(f"# /// script\n# dependencies = {wanted!r}\n# ///\n")
        try:
            resolution = resolver.resolve(read_script(script), target)
            break
        except BundleError as error:  # not every package has wheels for every target
            text = "\n".join(error.problems)
            unfit = {
                package for package in wanted if re.search(rf"(?<![\w-]){package}(?!\w)", text)
            }
            assert unfit, text
            wanted = [package for package in wanted if package not in unfit]
    ours = {choice.name: choice.filename for choice in select_artifacts(resolution)}
    python = (
        ["--python", free_threaded.fake_free_threaded_python(tmp_path / "interpreter")]
        if target.is_free_threaded
        else []
    )
    command = [
        find_uv(),
        "pip",
        "compile",
        "-",
        "--verbose",
        "--only-binary",
        ":all:",
        "--no-python-downloads",
    ]
    command += [
        "--python-version",
        resolution.full_version,
        "--python-platform",
        target.platform,
        *python,
    ]
    done = subprocess.run(
        command, input="\n".join(wanted), capture_output=True, text=True, check=True
    )
    selected = dict(re.findall(r"Selecting: ([^ =]+)==\S+ \[[^\]]*\] \((\S+)\)", done.stderr))
    assert len(wanted) >= 20
    assert ours == {package: selected.get(package) for package in ours}
