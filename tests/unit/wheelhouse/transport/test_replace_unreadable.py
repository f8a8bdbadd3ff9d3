"""A bundle whose manifest cannot be read is replaced by one that can, on request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import cli, run_command_line
from offline_bundle.wheelhouse.runtime.archive.unpack import main as unpack_alone
from offline_bundle.wheelhouse.runtime.bundle.unreadable import manifest_of_files
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.pack import pack
from tests.support.archives import no_fsync, put_bundle, tree, wheel_path

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["no_fsync"]


def unpack_installed(words: list[str]) -> int:
    return run_command_line(cli, ["unpack", *words], "offline-bundle")


BOTH = pytest.mark.parametrize("unpack", [unpack_installed, unpack_alone])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    bundle = put_bundle(tmp_path / "good", {"eval": {"alpha": "1.0", "beta": "2.0"}})
    pack(bundle, tmp_path / "good.tar")
    return tmp_path / "good.tar"


def without_scripts(document: bytes) -> bytes:
    """Return what an earlier stand-alone unpacker accepted, and the launcher did not."""
    manifest = json.loads(document)
    del manifest["scripts"]
    return json.dumps(manifest).encode()


@pytest.fixture(params=[without_scripts, lambda _: b"{", lambda _: b'{"format": 2}'])
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bundle with another wheel than the archive, and one that both have."""
    live = put_bundle(tmp_path / "live", {"eval": {"alpha": "1.0", "gamma": "1.0"}})
    manifest = live / "bundle.json"
    manifest.write_bytes(request.param(manifest.read_bytes()))
    return live


@BOTH
def test_without_replace_nothing_changes(
    broken: Path,
    archive: Path,
    unpack: Callable[[list[str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tree(broken)
    assert unpack([str(archive), "-o", str(broken)]) == 5
    output = capsys.readouterr().err
    assert f"error: {broken}: bundle.json " in output
    assert "--replace" in output
    assert tree(broken) == before


@BOTH
def test_with_replace_the_bundle_is_the_archive_s(
    broken: Path,
    archive: Path,
    unpack: Callable[[list[str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = broken / wheel_path("alpha", "1.0")
    inode = shared.stat().st_ino
    assert unpack([str(archive), "-o", str(broken), "--replace"]) == 0
    assert f"{broken} is replaced: bundle.json " in capsys.readouterr().err
    assert tree(broken) == tree(archive.with_name("good"))
    assert verify(broken).ok
    assert shared.stat().st_ino == inode, "intact files stay"
    assert unpack([str(archive), "-o", str(broken)]) == 0


@BOTH
@pytest.mark.parametrize("name", ["notes.txt", "results/plot.png", "wheels/../README"])
def test_files_that_no_bundle_has_are_never_removed(
    broken: Path,
    archive: Path,
    unpack: Callable[[list[str]], int],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """The folder may be a home folder that has a bundle.json by accident."""
    foreign = (broken / name).resolve()
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("of the user")
    before = tree(broken)
    assert unpack([str(archive), "-o", str(broken), "--replace"]) == 5
    output = capsys.readouterr().err
    assert "has files that no bundle has" in output
    assert foreign.relative_to(broken).as_posix() in output
    assert tree(broken) == before


@BOTH
def test_a_link_in_the_bundle_is_not_followed(
    broken: Path, archive: Path, tmp_path: Path, unpack: Callable[[list[str]], int]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.whl").write_text("kept")
    (broken / "cache").symlink_to(outside)
    assert unpack([str(archive), "-o", str(broken), "--replace"]) == 5
    assert (outside / "kept.whl").read_text() == "kept"


def test_every_file_of_the_format_may_be_replaced(tmp_path: Path) -> None:
    """All paths that the reference of the format names."""
    page = Path(__file__).parents[4] / "docs/reference/bundle-format.md"
    rows = [line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `")]
    paths = {path for row in rows for path in re.findall(r"`([a-zA-Z0-9./_*-]+)`", row)}
    assert {"locks/NAME/pylock.TARGET-DIGEST.toml", "uv.toml", "envs/SCRIPT/TARGET/LOCK/"} <= paths
    for path in paths - {"index.json", "*.whl.metadata"}:
        name = path.replace("*", "x-1-py3-none-any")
        file = tmp_path / (f"{name}x" if name.endswith("/") else name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    with SafeFolder(tmp_path) as folder:
        assert manifest_of_files(folder).files


@BOTH
def test_replace_of_a_readable_bundle_loses_nothing(
    archive: Path, tmp_path: Path, unpack: Callable[[list[str]], int]
) -> None:
    """With a manifest that can be read, the rules of updates and merges apply."""
    live = put_bundle(tmp_path / "live", {"plot": {"gamma": "1.0"}})
    code = unpack([str(archive), "-o", str(live), "--replace"])
    assert code == (5 if unpack is unpack_alone else 0)
    assert (live / wheel_path("gamma", "1.0")).exists()
    assert verify(live).ok
