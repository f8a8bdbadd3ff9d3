from __future__ import annotations

import shutil
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_bundle.wheelhouse.derived.wheel_metadata import (
    WheelMetadata,
    metadata_of_wheel,
    parse_metadata,
)
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from pathlib import Path


def test_metadata_is_verbatim_and_can_be_parsed(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        "Silly_Walk",
        "1.0",
        requires=["numpy>=1", "x; os_name=='nt'"],
        requires_python=">=3.9",
    )
    content = metadata_of_wheel(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert content == archive.read("Silly_Walk-1.0.dist-info/METADATA")
    assert parse_metadata(content) == WheelMetadata(
        "Silly_Walk", "1.0", ">=3.9", ("numpy>=1", "x; os_name=='nt'")
    )


def test_carriage_returns_and_bad_utf8_stay_as_they_are(tmp_path: Path) -> None:
    content = b"Metadata-Version: 2.1\r\nName: a\r\nVersion: 1\r\nSummary: caf\xe9\r\n\r\nd\xff\r\n"
    wheel = write_zip(tmp_path / "a-1-py3-none-any.whl", {"a-1.dist-info/METADATA": content})
    assert metadata_of_wheel(wheel) == content
    assert parse_metadata(content).name == "a"


def test_wheel_in_a_cache_is_read_under_its_own_name(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo")
    cached = wheel.rename(tmp_path / "0123abcd")
    assert metadata_of_wheel(cached, wheel.name).startswith(b"Metadata-Version")
    with pytest.raises(IntegrityError, match="other-1"):
        metadata_of_wheel(cached, "other-1.0-py3-none-any.whl")


@pytest.mark.parametrize("folder", ["A.B-1.0.dist-info", "a_b-1.dist-info"])
def test_other_spelling_of_the_folder_is_accepted(tmp_path: Path, folder: str) -> None:
    wheel = write_zip(
        tmp_path / "a_b-1.0-py3-none-any.whl", {f"{folder}/METADATA": b"Name: a-b\nVersion: 1.0\n"}
    )
    assert metadata_of_wheel(wheel)


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({}, "folder, got none"),
        ({"a.py": b""}, "folder, got none"),
        ({"a.dist-info": b""}, "folder, got none"),
        ({"x/a-1.0.dist-info/METADATA": b""}, "folder, got none"),
        ({"a-1.0.dist-info/METADATA": b"", "b-1.0.dist-info/METADATA": b""}, "folder, got a-1.0"),
        ({"b-1.0.dist-info/METADATA": b""}, "of another wheel: b-1.0"),
        ({"a-2.0.dist-info/METADATA": b""}, "of another wheel: a-2.0"),
        ({"a-x.dist-info/METADATA": b""}, "not a readable wheel"),
        ({"a-1.0.dist-info/WHEEL": b""}, "expected one a-1.0.dist-info/METADATA"),
        ({"a-1.0.dist-info/METADATA": b"\0" * (33 << 20)}, "larger than 32 MiB"),
    ],
)
def test_wheel_with_other_contents_is_refused(
    tmp_path: Path, members: dict[str, bytes], what: str
) -> None:
    wheel = write_zip(tmp_path / "a-1.0-py3-none-any.whl", members)
    with pytest.raises(IntegrityError, match=what) as caught:
        metadata_of_wheel(wheel)
    assert wheel.name in str(caught.value)
    assert caught.value.hint


def test_metadata_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a-1.0.dist-info/METADATA", b"Name: a")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a-1.0.dist-info/METADATA", b"Name: b")
    with pytest.raises(IntegrityError, match=r"expected one a-1\.0\.dist-info/METADATA, got 2"):
        metadata_of_wheel(wheel)


def test_damage_is_an_integrity_error(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo")
    content = wheel.read_bytes()
    for name, damaged in {
        "demo-2-py3-none-any.whl": b"",
        "demo-3-py3-none-any.whl": b"no zip at all",
        "demo-4-py3-none-any.whl": content[:-30],
        "demo-1.0-1-py3-none-any.whl": content.replace(b"Name: demo", b"Name: dem0", 1),
    }.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(IntegrityError, match=f"{name}: not a readable wheel"):
            metadata_of_wheel(tmp_path / name)
    with pytest.raises(IntegrityError, match="not a readable wheel"):
        metadata_of_wheel(tmp_path / "absent-1.0-py3-none-any.whl")


def test_invalid_wheel_name_is_rejected(tmp_path: Path) -> None:
    shutil.copy(make_wheel(tmp_path, "demo"), tmp_path / "demo.whl")
    with pytest.raises(IntegrityError, match="not a readable wheel"):
        metadata_of_wheel(tmp_path / "demo.whl")


@pytest.mark.parametrize(
    ("content", "what"), [(b"Version: 1\n", "name"), (b"Name: a\n", "version"), (b"", "name")]
)
def test_metadata_needs_a_name_and_a_version(content: bytes, what: str) -> None:
    with pytest.raises(IntegrityError, match=f"a-1-py3-none-any.whl: its metadata has no {what}"):
        parse_metadata(content, where="a-1-py3-none-any.whl")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_rejected(content: bytes) -> None:
    for damaged in (content, b"Name: a\nVersion: 1\n" + content):
        with suppress(IntegrityError):
            parse_metadata(damaged)
