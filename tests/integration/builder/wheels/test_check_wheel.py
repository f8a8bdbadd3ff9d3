"""Wheels that uv would not install on a node are rejected by the build, each with its reason."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.builder.wheels.check_wheel import check_wheel
from offline_bundle.wheelhouse.derived.wheel_metadata import metadata_of_wheel, parse_metadata
from offline_bundle.wheelhouse.runtime.errors import FetchError
from tests.support.distributions import make_wheel
from tests.support.pipeline_cases import Factory, factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["factory"]

INFO = "alpha-1.0.dist-info"
Members = dict[str, str]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "wheels", "alpha", files={"alpha/x.py": "", "alpha/y.py": "1"})


def rewrite(
    wheel: Path, change: Callable[[Members], object], method: int = zipfile.ZIP_STORED
) -> Path:
    """Write the wheel again with changed members."""
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(wheel, "w", method) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return wheel


def spoil(wheel: Path) -> None:
    """Replace the checksum of `alpha.py`."""
    with zipfile.ZipFile(wheel) as archive:
        checksum = archive.getinfo("alpha.py").CRC.to_bytes(4, "little")
    wheel.write_bytes(wheel.read_bytes().replace(checksum, bytes(4)))


def problems(wheel: Path) -> tuple[str, ...]:
    metadata = parse_metadata(metadata_of_wheel(wheel))
    with pytest.raises(FetchError) as caught:
        check_wheel(wheel, wheel.name, metadata)
    assert caught.value.message == f"{wheel.name}: this wheel cannot be installed"
    return caught.value.problems


def is_installed_by_uv(wheel: Path, folder: Path) -> bool:
    command = [find_uv(), "pip", "install", "--offline", "--no-deps", "--no-cache", "--target"]
    command += [str(folder / "target"), "--python", sys.executable, str(wheel)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_sound_wheel_is_accepted(wheel: Path, tmp_path: Path) -> None:
    check_wheel(wheel, wheel.name, parse_metadata(metadata_of_wheel(wheel)))
    assert is_installed_by_uv(wheel, tmp_path)


def test_copies_of_other_packages_in_a_wheel_are_not_its_metadata(tmp_path: Path) -> None:
    """As in setuptools: `setuptools/_vendor/tomli-2.0.dist-info`, before its own."""
    vendored = {"alpha/_vendor/tomli-2.0.dist-info/METADATA": "Name: tomli\nVersion: 2.0\n"}
    wheel = make_wheel(tmp_path / "wheels", "alpha", files=vendored)
    check_wheel(wheel, wheel.name, parse_metadata(metadata_of_wheel(wheel)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda members: members.pop(f"{INFO}/WHEEL"), f"{INFO}/WHEEL is missing"),
        (lambda members: members.pop(f"{INFO}/RECORD"), f"{INFO}/RECORD is missing"),
        (
            lambda members: members.update({f"{INFO}/WHEEL": "Wheel-Version: 2.0\n"}),
            "Wheel-Version must be 1.x, not 2.0",
        ),
        (
            lambda members: members.update({f"{INFO}/RECORD": "a,b,c,d,e,f\n"}),
            f"{INFO}/RECORD has 6 fields in a line, not 3",
        ),
        (
            lambda members: members.update({"alpha/x.py/z.py": ""}),
            "alpha/x.py is both a file and a folder",
        ),
        (
            lambda members: members.update({"alpha-1.0.data/odd/x": ""}),
            "unknown folder odd in .data",
        ),
        (
            lambda members: members.update(
                {f"{INFO}/entry_points.txt": "[console_scripts]\nrun = no module\n"}
            ),
            "invalid entry point run = no module",
        ),
        (
            lambda members: members.update(
                {f"{INFO}/entry_points.txt": "[console_scripts]\nrun = alpha\n"}
            ),
            "invalid entry point run = alpha",
        ),
        (
            lambda members: members.update(
                {f"{INFO}/entry_points.txt": "[console_scripts]\n../run = alpha:main\n"}
            ),
            "invalid entry point ../run = alpha:main",
        ),
        (
            lambda members: members.update(
                {f"{INFO}/entry_points.txt": "[gui_scripts]\nrun = a:b\nrun = a:c\n"}
            ),
            f"{INFO}/entry_points.txt is invalid",
        ),
        (
            lambda members: members.update({f"{INFO}/WHEEL": "wheel-version: 1.0\n"}),
            "Wheel-Version must be 1.x, not ",
        ),
        (
            lambda members: members.update({f"{INFO}/RECORD": "alpha.py,,-5\n"}),
            f"{INFO}/RECORD has an invalid size: -5",
        ),
        (
            lambda members: members.update({"alpha-1.0.data/x": ""}),
            "unknown folder x in .data",
        ),
        (
            lambda members: members.update({"alpha-1.0.data/scripts/tools/run": ""}),
            "folder in .data/scripts",
        ),
        (
            lambda members: members.update({"alpha/a\nb.py": ""}),
            r"alpha/a\nb.py is not a valid file name",
        ),
        (lambda members: members.update({"alpha/.": "x"}), "alpha/. is not a valid file name"),
        (
            lambda members: members.update({f"{INFO}/RECORD": f"alpha.py,,{'9' * 5000}\n"}),
            f"{INFO}/RECORD has an invalid size: {'9' * 5000}",
        ),
        (
            lambda members: members.update({"alpha-1.0.data/data/bin/python.py": "#!python\n"}),
            "reserved name in .data/scripts: python",
        ),
        (
            lambda members: members.update({"alpha-1.0.data/scripts/Python3": ""}),
            "reserved name in .data/scripts: Python3",
        ),
        (
            lambda members: members.update(
                {f"{INFO}/entry_points.txt": "[console_scripts]\npython3.12 = a:b\n"}
            ),
            "invalid entry point python3.12 = a:b",
        ),
        (
            lambda members: members.update(
                {f"{INFO}/entry_points.txt": "[console_scripts]\nrun = a:b []\n"}
            ),
            "invalid entry point run = a:b []",
        ),
        (
            lambda members: members.update({f"alpha/{'é' * 130}.py": ""}),
            f"alpha/{'é' * 130}.py is not a valid file name",
        ),
    ],
)
def test_a_wheel_that_uv_does_not_install_is_rejected(
    change: Callable[[Members], object], problem: str, wheel: Path, tmp_path: Path
) -> None:
    rewrite(wheel, change)
    assert problems(wheel) == (problem,)
    assert not is_installed_by_uv(wheel, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {f"{INFO}/WHEEL": "Wheel-Version: 1.0.0\n"},
        {f"{INFO}/WHEEL": "Wheel-Version: 0.1\n"},
        {f"{INFO}/RECORD": "\nalpha.py,,\n\n"},
        {f"{INFO}/entry_points.txt": "[console_scripts]\npython-config = a:b [c]\n"},
    ],
)
def test_an_odd_wheel_that_uv_installs_is_accepted(
    change: Members, wheel: Path, tmp_path: Path
) -> None:
    rewrite(wheel, lambda members: members.update(change))
    check_wheel(wheel, wheel.name, parse_metadata(metadata_of_wheel(wheel)))
    assert is_installed_by_uv(wheel, tmp_path)


@pytest.mark.parametrize(
    ("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")]
)
def test_other_compression_is_rejected(method: int, name: str, wheel: Path, tmp_path: Path) -> None:
    rewrite(wheel, lambda _: None, method)
    assert f"alpha/x.py is compressed by {name}, only deflate is allowed" in problems(wheel)
    assert not is_installed_by_uv(wheel, tmp_path)


@pytest.mark.parametrize(
    ("name", "version", "problem"),
    [
        ("beta", "1.0", "its METADATA has the name beta"),
        ("alpha", "2.0", "its METADATA has the version 2.0"),
        ("alpha", "no\x1bne", r"its METADATA has the version no\x1bne"),
    ],
)
def test_metadata_of_another_package_is_rejected(
    name: str, version: str, problem: str, wheel: Path
) -> None:
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    rewrite(wheel, lambda members: members.update({f"{INFO}/METADATA": text}))
    assert problems(wheel) == (problem,)


def test_a_member_twice_with_other_content_is_rejected(wheel: Path) -> None:
    """uv rejects it only while it reads from the network; elsewhere, either content may win."""
    with warnings.catch_warnings(), zipfile.ZipFile(wheel, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("alpha/y.py", "2")
    assert problems(wheel) == ("alpha/y.py occurs twice with different content",)


@pytest.mark.parametrize(
    "name", ["./alpha/y.py", "alpha//y.py", "alpha-1.0.data/purelib/alpha/y.py"]
)
def test_two_names_of_one_file_with_other_content_are_rejected(wheel: Path, name: str) -> None:
    """The last one is installed, though readers of the wheel see the first."""
    rewrite(wheel, lambda members: members.update({name: "2"}))
    assert problems(wheel) == (f"{name} occurs twice with different content",)


def test_content_that_differs_with_the_same_checksum_is_rejected(wheel: Path) -> None:
    """CRC-32 of these two is equal."""
    one, two = "plumless", "buckeroo"
    assert zlib.crc32(one.encode()) == zlib.crc32(two.encode())
    rewrite(wheel, lambda members: members.update({"alpha/z.py": one, "./alpha/z.py": two}))
    assert problems(wheel) == ("./alpha/z.py occurs twice with different content",)


@pytest.mark.parametrize(
    ("offset", "problem"),
    [(6, "alpha/x.py has two headers that differ"), (22, "alpha/x.py has two headers that differ")],
    ids=["encrypted", "size"],
)
def test_headers_that_differ_are_rejected(
    wheel: Path, tmp_path: Path, offset: int, problem: str
) -> None:
    with zipfile.ZipFile(rewrite(wheel, lambda _: None)) as archive:
        start = archive.getinfo("alpha/x.py").header_offset
    content = bytearray(wheel.read_bytes())
    content[start + offset] ^= 1
    wheel.write_bytes(content)
    assert problems(wheel)[0] == problem
    assert not is_installed_by_uv(wheel, tmp_path)


@pytest.mark.parametrize("count", [1, 200])
def test_a_wrong_number_of_files_is_rejected(wheel: Path, tmp_path: Path, count: int) -> None:
    content = bytearray(wheel.read_bytes())
    actual = content[-12]
    content[-12] = count
    wheel.write_bytes(content)
    assert problems(wheel) == (f"it has {actual} files, its end states {count}",)
    assert not is_installed_by_uv(wheel, tmp_path)


def test_a_record_with_an_endless_field_is_rejected(wheel: Path) -> None:
    record = f"{'a' * 200_000},,\n"
    rewrite(wheel, lambda members: members.update({f"{INFO}/RECORD": record}))
    assert problems(wheel)[0].startswith(f"{INFO}/RECORD is invalid: ")


def test_bytes_around_the_zip_file_are_rejected(wheel: Path, tmp_path: Path) -> None:
    content = wheel.read_bytes()
    wheel.write_bytes(content + b"more")
    assert problems(wheel) == ("it has bytes after the end of the ZIP file",)
    assert not is_installed_by_uv(wheel, tmp_path)
    wheel.write_bytes(b"more" + content)
    assert problems(wheel) == ("it has bytes before the ZIP file",)


@pytest.mark.parametrize("name", ["../x.py", "/x.py", "alpha/../../x.py"])
def test_a_file_outside_the_wheel_is_rejected(name: str, wheel: Path) -> None:
    """uv leaves it out, and pip stops."""
    rewrite(wheel, lambda members: members.update({name: ""}))
    assert problems(wheel) == (f"{name} is not a valid file name",)


@pytest.mark.parametrize("name", [b"ee\xe9.py", "ée.py".encode()], ids=["Latin-1", "no flag"])
def test_a_file_name_that_is_not_utf_8_is_rejected(
    name: bytes, wheel: Path, tmp_path: Path
) -> None:
    content = rewrite(wheel, lambda members: members.update({"eXX.py": ""})).read_bytes()
    wheel.write_bytes(content.replace(b"eXX.py", name))
    assert len(problems(wheel)) == 1
    assert not is_installed_by_uv(wheel, tmp_path)


def test_a_wrong_checksum_of_a_stored_member_is_found(wheel: Path, tmp_path: Path) -> None:
    content = wheel.read_bytes()
    assert content.count(b"VERSION = '1.0'") == 1
    wheel.write_bytes(content.replace(b"VERSION = '1.0'", b"VERSION = '9.0'"))
    assert problems(wheel) == ("alpha.py does not match its checksum",)
    assert not is_installed_by_uv(wheel, tmp_path)


def test_a_wrong_checksum_of_a_compressed_module_is_found(factory: Factory, packages: Path) -> None:
    """Compiling reads the modules; the wheel is not kept for the next build."""
    wheel = rewrite(make_wheel(packages, "alpha"), lambda _: None, zipfile.ZIP_DEFLATED)
    spoil(wheel)
    for _ in range(2):
        message = factory.fails(FetchError, factory.script("alpha"))
        assert "alpha-1.0: this wheel is corrupt: Bad CRC-32" in message
    make_wheel(packages, "alpha")
    factory.build(factory.script("alpha"))
