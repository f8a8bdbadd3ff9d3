from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.cli.pack import pack_command
from offline_bundle.wheelhouse.cli.unpack import unpack_command
from offline_bundle.wheelhouse.cli.verify import verify_command
from tests.support.archives import no_fsync, put_bundle, tree

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.archive_cli_cases import bundle, call

__all__ = ["bundle", "no_fsync"]


def test_pack_verify_and_unpack(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "b.tar"
    assert call(pack_command, bundle, "-o", archive) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"  {archive}\n" in said.err
    assert "17 files" in said.err
    assert call(verify_command, archive, "-v") == 0
    assert "all match the manifest" in capsys.readouterr().err
    assert call(unpack_command, archive, "-o", tmp_path / "copy") == 0
    assert "b.tar: unpacked to" in capsys.readouterr().err
    assert call(unpack_command, archive, "-o", tmp_path / "copy") == 0
    assert "already in" in capsys.readouterr().err
    assert tree(tmp_path / "copy") == tree(bundle)


def test_json_has_the_same_results(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "b.tar"
    assert call(pack_command, bundle, "-o", archive, "--split-size", "64k", "--json") == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed["files"] == [
        str(tmp_path / name) for name in ("b.tar.001", "b.tar.parts.sha256", "b.tar.unpack.py")
    ]
    assert packed["size"] == (tmp_path / "b.tar.001").stat().st_size
    assert call(unpack_command, tmp_path / "b.tar.001", "-o", tmp_path / "copy", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "bundle": str(tmp_path / "copy"),
        "archives": [{"archive": "b.tar", "relation": "new", "changed": True, "unsigned": False}],
    }
    assert call(verify_command, tmp_path / "b.tar.001", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_quiet_prints_nothing(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(pack_command, bundle, "-o", tmp_path / "b.tar", "-q") == 0
    assert call(unpack_command, tmp_path / "b.tar", "-o", tmp_path / "copy", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_damage_is_exit_5_with_names(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "b.tar"
    assert call(pack_command, bundle, "-o", archive) == 0
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"print('run')", b"print('RUN')"))
    assert call(verify_command, archive) == 5
    assert call(unpack_command, archive, "-o", tmp_path / "copy") == 5
    said = capsys.readouterr().err
    assert said.count("run.py: ") == 1
    assert "changed: run.py" in said
    assert "hint: " in said
    assert call(unpack_command, archive, "-o", tmp_path / "copy", "--json") == 5
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 5


@pytest.mark.parametrize("arguments", [["x.tar"], ["-o", "x"], []])
def test_bad_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(unpack_command, *arguments) == 2
    assert capsys.readouterr().err


def test_an_invalid_size_is_exit_2(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(pack_command, bundle, "-o", tmp_path / "b.tar", "--split-size", "big") == 2
    assert "is not a size" in capsys.readouterr().err


def test_a_removed_signature_is_reported(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "bundle.json.sig").write_bytes(b"signature")
    other = put_bundle(tmp_path / "other", {"plot": {"gamma": "1.0"}})
    for source in (bundle, other):
        assert call(pack_command, source, "-o", tmp_path / f"{source.name}.tar", "-q") == 0
        assert call(unpack_command, tmp_path / f"{source.name}.tar", "-o", tmp_path / "live") == 0
    assert "the signature of" in capsys.readouterr().err


def test_an_empty_path_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verify_command, "") == 2
    assert "it is empty" in capsys.readouterr().err
