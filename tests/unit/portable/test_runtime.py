"""The runtime on every Python that a node may have, and on every system: 3.9 syntax, pytest alone.

`make unit` runs these tests on the Python of .venv. `tools/portable_tests.py` runs them on the
Python that runs it, without the other tests' conftest, which needs Python 3.11.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import sys
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse import runtime
from offline_bundle.wheelhouse.runtime.archive.tar import header_size, padded, render_header
from offline_bundle.wheelhouse.runtime.disk.cache_dir import cache_candidates, cache_fault
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of, write_atomic
from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.disk.paths import path_problems, unsafe_path
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, IntegrityError
from offline_bundle.wheelhouse.runtime.parallel import parallel_map
from offline_bundle.wheelhouse.runtime.python.pep723 import block_digest, read_block
from offline_bundle.wheelhouse.runtime.python.platforms import Node, parse_platform
from offline_bundle.wheelhouse.runtime.python.requirements import (
    canonical_requirement,
    python_matches,
)
from offline_bundle.wheelhouse.runtime.strict_json import parse_object

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = '# /// script\n# dependencies = ["numpy"]\n# ///\nprint(1)\n'
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(runtime.__path__, f"{runtime.__name__}.")
    if not module.ispkg
)


@pytest.mark.parametrize("name", MODULES)
def test_module_is_imported(name: str) -> None:
    importlib.import_module(name)


def test_modules_are_found() -> None:
    assert len(MODULES) > 30


def test_block_with_any_line_endings_has_one_digest() -> None:
    block = read_block(SCRIPT)
    assert block == 'dependencies = ["numpy"]\n'
    assert read_block("\ufeff" + SCRIPT.replace("\n", "\r\n")) == block
    assert block_digest(block) == block_digest(block.replace("\n", "\r\n"))


def test_block_without_an_end_is_an_input_error() -> None:
    with pytest.raises(InputError):
        read_block("# /// script\n# dependencies = []\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NumPy >= 2, <3", "numpy<3,>=2"),
        ("a_b[X,y]", "a-b[x,y]"),
        ("a; python_version<'4'", 'a; python_version<"4"'),
    ],
)
def test_requirement_is_spelled_in_one_way(text: str, expected: str) -> None:
    spelled = canonical_requirement(text)
    assert spelled.replace(" ", "").replace("'", '"') == expected.replace(" ", "")
    assert canonical_requirement(spelled) == spelled


@pytest.mark.parametrize(
    ("requires", "version", "expected"),
    [
        (None, (3, 9, 0), True),
        (">=3.9", (3, 9, 0), True),
        (">=3.10,<4", (3, 9, 18), False),
        ("~=3.11.2", (3, 11, 4), True),
        ("==3.12", (3, 12, 7), True),
        ("!=3.12.*", (3, 12, 7), False),
    ],
)
def test_requires_python_is_compared(
    *, requires: str | None, version: tuple[int, int, int], expected: bool
) -> None:
    assert python_matches(requires, version) is expected


def test_platform_name_has_four_parts() -> None:
    assert parse_platform("x86_64-manylinux_2_28") == ("Linux", "x86_64", "glibc", (2, 28))
    assert parse_platform("aarch64-apple-darwin")[:2] == ("Darwin", "aarch64")
    assert parse_platform("x86_64-pc-windows-msvc")[:2] == ("Windows", "x86_64")


def test_this_node_has_a_platform() -> None:
    node = Node()
    systems = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
    assert node.system == systems[sys.platform]
    assert node.machine in node.platform()


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../a", "a//b", "a\\b", "C:/a", "con", "a/nul.txt", "bundle.json"),
        *("x" * 256, "a/" + "é" * 128, f"{'y' * 256}/a"),
    ],
)
def test_unsafe_path_is_refused(path: str) -> None:
    assert unsafe_path(path)


def test_paths_that_meet_without_case_are_refused() -> None:
    assert unsafe_path("wheels/index.html") is None
    assert unsafe_path(f"{'x' * 255}/{'é' * 127}") is None
    assert [path for path, _ in path_problems(["a/b", "A/b"])] == ["A/b", "A/b"]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[]", "{", "[" * 100_000])
def test_json_that_is_not_strict_is_an_integrity_error(text: str) -> None:
    with pytest.raises(IntegrityError):
        parse_object(text.encode(), "bundle.json")


def test_errors_have_an_exit_code_and_their_problems() -> None:
    error = InputError("a: b", hint="c", problems=("d", "e"))
    assert isinstance(error, BundleError)
    assert (error.exit_code, str(error)) == (2, "a: b\n  d\n  e")


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with FileLock(path):
        assert FileLock(path).acquire(block=False) is False
    with FileLock(path):
        pass


def test_lock_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    events = []

    def wait() -> None:
        with FileLock(path):
            events.append("second")

    with FileLock(path):
        thread = threading.Thread(target=wait)
        thread.start()
        events.append("first")
    thread.join(30)
    assert events == ["first", "second"]


def test_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        write_atomic(str(path), content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_digest_is_sha256_in_lower_case_hex() -> None:
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_of(b"") == expected


def test_parallel_map_returns_all_results() -> None:
    results = parallel_map(lambda number: number * number, range(20))
    assert sorted(square for _, square in results) == [number * number for number in range(20)]


@pytest.mark.parametrize("path", ["run.py", "a" * 90 + "/" + "b" * 90, "c" * 120, "wheels/\xe9"])
def test_rendered_header_is_read_by_tarfile(path: str) -> None:
    content = b"content"
    header = render_header(path, len(content), 1_700_000_000, is_executable=True)
    assert len(header) == header_size(path, len(content))
    data = header + content.ljust(padded(len(content)), b"\0") + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        [member] = archive.getmembers()
        file = archive.extractfile(member)
        assert file is not None
        assert (member.name, member.mode, file.read()) == (path, 0o755, content)


def test_cache_folder_is_the_one_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(0o700)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(folder))
    assert cache_candidates() == [str(folder)]
    assert cache_fault(str(folder)) is None
