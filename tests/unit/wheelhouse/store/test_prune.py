from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import run_command_line
from offline_bundle.wheelhouse.cli.prune import prune_command
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, read_manifest
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.names import UV_SHIM
from offline_bundle.wheelhouse.store.prune import RETIRED, drop, prune, unneeded, without
from tests.support.reviewed import LINUX, MAC, WINDOWS, Shelf

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.prune_cases import LINUX_UV, MAC_UV, NOW, assert_whole, bundle, files_of

__all__ = ["bundle"]


def test_prune_of_a_minimal_bundle_changes_nothing(bundle: Path) -> None:
    before = files_of(bundle)
    report = prune(bundle, grace=NOW)
    assert (report.removed, dict(report.waiting), report.changed) == ((), {}, False)
    assert files_of(bundle) == before


def test_dropped_script_takes_its_own_files_along(bundle: Path) -> None:
    report = prune(bundle, drop_scripts=["study"], grace=NOW)
    assert report.scripts == ("study",)
    assert report.targets == (MAC,)
    wheel = "wheels/scipy-1.0-py3-none-any.whl"
    assert set(report.removed) == {
        "scripts/study.py",
        *(
            f"locks/study/{kind}{target}{end}"
            for target in (LINUX, MAC)
            for kind, end in (("pylock.", ".toml"), ("requirements-", ".txt"))
        ),
        wheel,
        f"{wheel}.metadata",
        f"uv/{MAC_UV}/uv",
    }
    left = files_of(bundle)
    assert not left.keys() & set(report.removed)
    assert "wheels/numpy-1.0-py3-none-any.whl" in left
    assert "simple/scipy/index.html" not in left
    assert "scipy" not in left["simple/index.html"].decode()
    assert not (bundle / "locks" / "study").exists()
    assert "scipy" not in left["sbom.cdx.json"].decode()
    assert "removed" in left["report.html"].decode()
    assert_whole(bundle)
    assert prune(bundle, grace=NOW).changed is False


def test_dropped_target_takes_scripts_without_other_targets_along(bundle: Path) -> None:
    prune(bundle, drop_targets=[WINDOWS, MAC], grace=NOW)
    manifest = read_manifest(bundle)
    assert {name: list(script.locks) for name, script in manifest.scripts.items()} == {
        "eval": [LINUX],
        "study": [LINUX],
    }
    assert list(manifest.uv) == [LINUX_UV]
    report = prune(bundle, drop_scripts=["study"], grace=NOW)
    assert report.targets == ()
    assert_whole(bundle)


def let_time_pass(bundle: Path, time: timedelta) -> None:
    notes = json.loads((bundle / RETIRED).read_text())
    earlier = {
        path: (datetime.fromisoformat(since) - time).isoformat() for path, since in notes.items()
    }
    (bundle / RETIRED).write_text(json.dumps(earlier))


def test_unneeded_files_stay_for_the_grace_period(bundle: Path) -> None:
    before = files_of(bundle)
    report = prune(bundle, drop_scripts=["study"])
    assert report.removed == ()
    wheel = "wheels/scipy-1.0-py3-none-any.whl"
    assert {
        wheel,
        "scripts/study.py",
        f"locks/study/pylock.{LINUX}.toml",
        f"uv/{MAC_UV}/uv",
    } <= report.waiting.keys()
    assert report.waiting_size > 900
    manifest = read_manifest(bundle)
    assert list(manifest.scripts) == ["eval"]
    assert manifest.files[wheel].needed_by == ()
    still = files_of(bundle)
    assert all(still[path] == before[path] for path in report.waiting)
    assert_whole(bundle)
    let_time_pass(bundle, timedelta(hours=23))
    assert prune(bundle).removed == ()
    let_time_pass(bundle, timedelta(hours=2))
    assert wheel in prune(bundle).removed
    assert_whole(bundle)
    assert not (bundle / RETIRED).exists()


def test_grace_period_continues_through_other_commits(bundle: Path) -> None:
    """`.writer/retired.json` remembers; the manifest's own time alone would begin anew."""
    prune(bundle, drop_scripts=["study"])
    let_time_pass(bundle, timedelta(hours=20))
    assert prune(bundle, drop_targets=[WINDOWS]).removed == ()
    let_time_pass(bundle, timedelta(hours=5))
    removed = prune(bundle).removed
    assert "wheels/scipy-1.0-py3-none-any.whl" in removed
    assert f"locks/eval/pylock.{WINDOWS}.toml" not in removed


def test_grace_period_without_records_begins_at_the_last_commit(bundle: Path) -> None:
    prune(bundle, drop_scripts=["study"])
    (bundle / RETIRED).unlink()
    time.sleep(0.2)
    assert prune(bundle, grace=timedelta(seconds=0.1)).removed


@pytest.mark.parametrize("notes", ["", "[]", '{"wheels/x": 1}', '{"wheels/x": "soon"}', "\0"])
def test_invalid_records_restart_the_grace_period(bundle: Path, notes: str) -> None:
    prune(bundle, drop_scripts=["study"])
    (bundle / RETIRED).write_text(notes)
    report = prune(bundle)
    assert report.removed == ()
    assert report.waiting
    assert isinstance(json.loads((bundle / RETIRED).read_text()), dict)


def test_changed_mtime_of_the_manifest_does_not_shorten_the_grace_period(bundle: Path) -> None:
    prune(bundle, drop_scripts=["study"])
    (bundle / RETIRED).unlink()
    os.utime(bundle / "bundle.json", (0, 0))
    assert prune(bundle).removed == ()


def test_files_needed_again_are_not_removed(bundle: Path) -> None:
    prune(bundle, drop_scripts=["study"])
    let_time_pass(bundle, timedelta(days=2))
    shelf = Shelf()
    numpy, scipy = shelf.wheel("numpy"), shelf.wheel("scipy", size=900)
    shelf.write(
        bundle,
        shelf.manifest({"eval": {LINUX: [numpy], WINDOWS: [numpy]}, "other": {LINUX: [scipy]}}),
    )
    assert scipy not in prune(bundle).removed
    assert (bundle / scipy).exists()
    assert_whole(bundle)


def test_dry_run_reports_the_same_and_writes_nothing(bundle: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [bundle, *bundle.rglob("*")]}
    dry = prune(bundle, drop_scripts=["study"], grace=NOW, is_dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in [bundle, *bundle.rglob("*")]} == before
    assert dry.is_dry_run
    wet = prune(bundle, drop_scripts=["study"], grace=NOW)
    assert (dry.removed, dry.freed, dry.scripts, dry.targets) == (
        wet.removed,
        wet.freed,
        wet.scripts,
        wet.targets,
    )


def test_unknown_names_are_rejected_with_the_present_ones(bundle: Path) -> None:
    with pytest.raises(InputError) as caught:
        prune(bundle, drop_scripts=["evil"], drop_targets=["cp39-linux"])
    assert caught.value.exit_code == 2
    assert caught.value.problems == (
        "no script evil; the bundle has eval, study",
        f"no target cp39-linux; the bundle has {LINUX}, {WINDOWS}, {MAC}",
    )


def test_prune_of_everything_is_rejected(bundle: Path) -> None:
    with pytest.raises(InputError, match="nothing would be left"):
        prune(bundle, drop_scripts=["eval", "study"])


def test_folder_without_a_bundle_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        prune(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_readers_continue_during_a_prune(bundle: Path) -> None:
    """Files of the previous manifest stay for the grace period, open files for longer."""
    before = read_manifest(bundle)
    contents = files_of(bundle)
    wheel = "wheels/scipy-1.0-py3-none-any.whl"
    with (bundle / wheel).open("rb") as held:
        first = held.read(100)
        prune(bundle, drop_scripts=["study"])
        names = [
            path
            for path in before.files
            if path.startswith(("wheels/", "locks/", "scripts/", "uv/"))
        ]
        assert all((bundle / path).read_bytes() == contents[path] for path in names)
        prune(bundle, grace=NOW)
        assert not (bundle / wheel).exists()
        assert first + held.read() == contents[wheel]
    assert_whole(bundle)


def test_unneeded_without_and_drop_are_pure() -> None:
    shelf = Shelf()
    numpy, left = shelf.wheel("numpy"), shelf.wheel("left")
    manifest = shelf.manifest({"eval": {LINUX: [numpy]}})
    assert unneeded(manifest) == {left, f"{left}.metadata"}
    smaller, pages = without(manifest, unneeded(manifest))
    assert left not in smaller.files
    assert "simple/numpy/index.html" in pages
    assert drop(manifest, [], []) == manifest


def test_the_uv_shim_stays_with_ready_environments() -> None:
    shelf = Shelf()
    manifest = shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}})
    script, folder = manifest.scripts["eval"], "envs/eval/x"
    added = dict.fromkeys((UV_SHIM, f"{folder}/pyvenv.cfg"), BundledFile("0" * 64, 1))
    without_lock = replace(manifest, files={**manifest.files, **added})
    assert unneeded(without_lock) == added.keys()
    locks = {LINUX: replace(script.locks[LINUX], environment=folder)}
    ready = replace(without_lock, scripts={"eval": replace(script, locks=locks)})
    assert unneeded(ready) == set()


class TestCommand:
    def test_prune_prints_a_table(self, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [str(bundle), "--drop-script", "study", "--grace", "0", "--dry-run"]
        assert run_command_line(prune_command, arguments, "prune") == 0
        said = capsys.readouterr()
        rows = [line.split(maxsplit=2) for line in said.out.splitlines()]
        assert ["script", "study", "would be dropped"] in rows
        assert ["file", "wheels/scipy-1.0-py3-none-any.whl", "would be removed"] in rows
        assert "would be removed" in said.err
        assert (
            run_command_line(prune_command, [str(bundle), "--drop-script", "study"], "prune") == 0
        )
        said = capsys.readouterr()
        assert "unneeded, kept until" in said.out
        assert "run prune again afterwards" in said.err

    def test_prune_prints_json(self, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert (
            run_command_line(
                prune_command,
                [str(bundle), "--drop-target", MAC, "--grace", "0", "--json"],
                "prune",
            )
            == 0
        )
        assert json.loads(capsys.readouterr().out)["targets"] == [MAC]

    @pytest.mark.parametrize("grace", ["soon", "-1d", "1", "9999999d", ""])
    def test_invalid_grace_is_rejected(self, bundle: Path, grace: str) -> None:
        assert run_command_line(prune_command, [str(bundle), "--grace", grace], "prune") == 2

    def test_unknown_names_exit_2(self, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command_line(prune_command, [str(bundle), "--drop-script", "evil"], "prune") == 2
        assert "the bundle has eval, study" in capsys.readouterr().err
