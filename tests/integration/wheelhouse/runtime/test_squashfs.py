"""The reader of SquashFS images, with images of the real mksquashfs: right, damaged and hostile."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.squashfs import unpack
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PLAIN = ("-noI", "-noD", "-noF")
"""Nothing is compressed, so that a test can change names."""


def make_image(folder: Path, *options: str) -> Path:
    image = folder.with_name("image.squashfs")
    command = [
        require("mksquashfs"),
        str(folder),
        str(image),
        "-noappend",
        "-quiet",
        "-no-progress",
    ]
    subprocess.run([*command, "-all-root", *options], check=True, capture_output=True)
    return image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "deep/er/and/deeper").mkdir(parents=True)
    (folder / "empty folder").mkdir()
    (folder / "empty").touch()
    (folder / "hello").write_text("hello\n")
    (folder / "hello").chmod(0o755)
    noise = random.Random(1)
    for size in (4095, 4096, 4097, 131072, 1_300_001):
        (folder / f"noise-{size}").write_bytes(noise.randbytes(size))
    (folder / "zeros").write_bytes(bytes(500_000) + b"end")
    (folder / "deep/er/and/deeper/name é").write_text("x" * 10_000)
    (folder / "many").mkdir()
    for number in range(700):
        (folder / "many" / f"{number:05}-{'n' * 80}").write_text(str(number))
    return folder


def content(folder: Path) -> dict[str, tuple[bytes, bool] | None]:
    return {
        str(path.relative_to(folder)): None
        if path.is_dir()
        else (path.read_bytes(), os.access(path, os.X_OK))
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "options",
    [(), PLAIN, ("-no-fragments",), ("-b", "4096"), ("-b", "1048576", "-always-use-fragments")],
)
def test_reader_gives_the_content_that_was_packed(
    tree: Path, tmp_path: Path, options: Sequence[str]
) -> None:
    unpack(str(make_image(tree, *options)), str(tmp_path / "out"))
    assert content(tmp_path / "out") == content(tree)


@pytest.mark.parametrize(
    ("options", "reason"),
    [(("-comp", "xz"), "its compression is not gzip"), ((), "a link, device")],
)
def test_other_images_are_refused(tmp_path: Path, options: Sequence[str], reason: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError, match=reason):
        unpack(str(make_image(tmp_path / "tree", *options)), str(tmp_path / "out"))


@pytest.mark.parametrize("name", [b"..", b"/x", b"a/", b"\\x", b"x\0", b"cd"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "tree").mkdir()
    for path in ("ab", "cd"):
        (tmp_path / "tree" / path).write_text("written")
    image = make_image(tmp_path / "tree", *PLAIN)
    image.write_bytes(image.read_bytes().replace(b"ab", name))
    with pytest.raises(IntegrityError, match="is not allowed"):
        unpack(str(image), str(tmp_path / "out"))
    assert not (tmp_path / "written").exists()


def test_image_larger_than_the_limit_is_refused(tree: Path, tmp_path: Path) -> None:
    image = make_image(tree)
    with pytest.raises(IntegrityError, match="more than 100000 bytes"):
        unpack(str(image), str(tmp_path / "out"), 100_000)


def test_anything_else_is_refused(tmp_path: Path) -> None:
    for number, text in enumerate((b"", b"hsqs", bytes(4096), b"hsqs" + b"\xff" * 4092)):
        (tmp_path / "image").write_bytes(text)
        with pytest.raises(IntegrityError):
            unpack(str(tmp_path / "image"), str(tmp_path / str(number)))


@pytest.mark.parametrize("options", [(), PLAIN])
def test_damage_is_refused_or_harmless(tmp_path: Path, options: Sequence[str]) -> None:
    """Nothing is written outside of the folder, and no other error than the two is raised."""
    folder = tmp_path / "place" / "tree"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_text("text")
    (folder / "other").write_text("more text" * 20)
    good = make_image(folder, *options).read_bytes()
    image, noise = tmp_path / "place/image.squashfs", random.Random(2)
    length = int.from_bytes(good[40:48], "little")  # what follows is padding
    refused = 0
    for position in range(length):
        damaged = bytearray(good)
        damaged[position] ^= noise.randrange(1, 256)
        image.write_bytes(damaged if position % 2 else good[:position])
        try:
            unpack(str(image), str(tmp_path / "place" / "out" / str(position)))
        except (IntegrityError, OSError):
            refused += 1
        (tmp_path / "place" / "out").mkdir(exist_ok=True)
    assert refused >= length // 2
    assert {path.name for path in (tmp_path / "place").iterdir()} == {
        "image.squashfs",
        "out",
        "tree",
    }
    assert all(path.name.isdecimal() for path in (tmp_path / "place/out").iterdir())
