"""`build --check`: what building now would change, said without writing anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.check import CheckReport, check
from offline_bundle.builder.model import BuildRequest
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import (
    InputError,
    IntegrityError,
    OutOfDateError,
    ResolveError,
)
from tests.support.distributions import make_buildable_sdist, make_source_tree, make_wheel
from tests.support.pipeline_cases import HERE, TARGET, Factory, Silence, make_uv_wheel, snapshot
from tests.support.uv_cases import make_repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.index_server import IndexServer


class Checker(Factory):
    def check(self, *scripts: Path, allow: tuple[str, ...] = (), **changes: object) -> CheckReport:
        options = ResolveOptions(default_index=self.index.url, allow_build=frozenset(allow))
        values = {"scripts": scripts, "output": self.bundle, "options": options, **changes}
        before = snapshot(self.folder), sorted(self.folder.rglob("*"))
        report = check(BuildRequest(**values), find_uv(), Silence())  # type: ignore[arg-type]
        assert (snapshot(self.folder), sorted(self.folder.rglob("*"))) == before
        return report

    def messages(self, *scripts: Path, **changes: object) -> list[str]:
        return [change.message for change in self.check(*scripts, **changes).changes]  # type: ignore[arg-type]


@pytest.fixture
def checker(tmp_path: Path, index: IndexServer) -> Checker:
    return Checker(tmp_path, index)


def test_what_check_says_is_what_build_does(checker: Checker, packages: Path) -> None:
    """Through a bundle's life: before each build the check says what comes, after it that nothing
    is left.
    """
    make_wheel(packages, "leaf", "1.0")
    make_wheel(packages, "other", "1.0")
    steps: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: checker.script("leaf", "other"), ["there is no bundle yet"]),
        (lambda: make_wheel(packages, "leaf", "2.0"), [f"job for {TARGET}: leaf 1.0 → 2.0"]),
        (lambda: make_wheel(packages, "leaf", "2.1", requires=["twig"]) and make_wheel(packages, "twig", "3"),
         [f"job for {TARGET}: leaf 2.0 → 2.1", f"job for {TARGET}: twig 3 is added"]),
        (lambda: checker.script("leaf>=1"),
         ["job: now needs leaf>=1; no longer needs leaf; no longer needs other",
          f"job for {TARGET}: other 1.0 is removed"]),
        (lambda: checker.script("leaf>=1", body="print()\n"), ["job: its code changed, its metadata did not"]),
        (lambda: checker.script("leaf>=1", body="print()\n", tool="[tool.uv]\nprerelease = 'allow'"),
         ["job: its [tool.uv] settings changed"]),
        ((checker.bundle / "wheels/twig-3-py3-none-any.whl").unlink,
         ["wheels/twig-3-py3-none-any.whl is missing or truncated"]),
        (lambda: make_wheel(packages, "leaf", "2.2"),
         [f"job for {TARGET}: leaf 2.1 → 2.2", f"job for {TARGET}: twig 3 is removed"]),
    ]  # fmt: skip
    script = checker.folder / "job.py"
    for act, expected in steps:
        act()
        assert checker.messages(script) == expected
        assert checker.build(script).changed
        report = checker.check(script)
        assert (report.changes, report.error) == ((), None)


def test_targets_and_scripts_that_are_missing_are_named(checker: Checker, packages: Path) -> None:
    make_wheel(packages, "leaf")
    one, two = checker.script("leaf"), checker.script("leaf", name="two")
    checker.build(one)
    windows = f"cp{HERE.replace('.', '')}-x86_64-pc-windows-msvc"
    [missing, *_] = checker.check(one, platforms=("windows",)).changes
    assert (missing.kind, missing.script, missing.target) == ("target-added", "job", windows)
    assert checker.messages(one, two) == ["two is not in the bundle yet"]
    checker.build(one, platforms=("windows",))
    one = checker.script("leaf>=1")
    message = (
        f"job for {windows} is dropped because the script's metadata changed; "
        "add --python-version and --python-platform of this target"
    )
    assert message in checker.messages(one)


def test_a_manifest_alone_can_be_checked(checker: Checker, packages: Path) -> None:
    make_wheel(packages, "leaf")
    script = checker.script("leaf")
    checker.build(script)
    kept = checker.folder / "kept"
    kept.mkdir()
    shutil.copyfile(checker.bundle / "bundle.json", kept / "bundle.json")
    assert checker.messages(script, output=kept) == []
    make_wheel(packages, "leaf", "2.0")
    assert checker.messages(script, output=kept) == [f"job for {TARGET}: leaf 1.0 → 2.0"]


def test_a_wheel_yanked_since_is_reported(checker: Checker, packages: Path) -> None:
    wheel = make_wheel(packages, "leaf")
    script = checker.script("leaf==1.0")
    checker.build(script)
    checker.index.describe(wheel.name, yanked="leaks")
    assert checker.messages(script) == ["leaf 1.0 was yanked from its index (leaks)"]


def test_another_uv_for_the_nodes_is_reported(checker: Checker, packages: Path) -> None:
    for version in ("1.0", "2.0"):
        make_uv_wheel(packages, version)
    make_wheel(packages, "leaf")
    script = checker.script("leaf")
    checker.build(script, uv_version="1.0")
    assert checker.messages(script, uv_version="1.0") == []
    assert checker.messages(script, uv_version="2.0", is_uv_default=True) == []
    assert checker.messages(script, uv_version="2.0") == ["uv for x86_64-manylinux_2_17: 1.0 → 2.0"]


def test_what_was_built_from_a_source_is_known_by_the_source(
    checker: Checker, packages: Path, tmp_path: Path
) -> None:
    make_buildable_sdist(packages, "archived")
    own = make_source_tree(tmp_path / "own", "own")
    repository = make_repository(make_source_tree(tmp_path / "kept", "kept"))
    tool = "[tool.uv.sources]\nown = { path = './own' }"
    script = checker.script("archived", "own", f"kept @ git+file://{repository}", tool=tool)
    checker.build(script, allow=("archived", "kept"))
    assert checker.messages(script, allow=("archived", "kept")) == []
    (own / "own.py").write_text("VERSION = 'another'\n")
    [message] = checker.messages(script, allow=("archived", "kept"))
    assert message.startswith(f"job for {TARGET}: own 1.0")


def test_another_launcher_and_another_version_are_reported(
    checker: Checker, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "leaf")
    script = checker.script("leaf")
    checker.build(script)
    monkeypatch.setattr("offline_bundle.builder.check.__version__", "99")
    monkeypatch.setattr(
        "offline_bundle.builder.check.bundle_files", lambda **_: {"run.py": b"other"}
    )
    assert [change.kind for change in checker.check(script).changes] == [
        "launcher-changed",
        "version-changed",
    ]


def test_faults_keep_their_own_exit_codes(checker: Checker, packages: Path) -> None:
    make_wheel(packages, "leaf")
    script = checker.script("leaf")
    with pytest.raises(InputError):
        checker.check(checker.folder / "none.py")
    foreign = checker.folder / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    with pytest.raises(InputError, match="not a bundle"):
        checker.check(script, output=foreign)
    checker.build(script)
    with pytest.raises(ResolveError):
        checker.check(checker.script("absent"))
    (checker.bundle / "bundle.json").write_text("{")
    with pytest.raises(IntegrityError):
        checker.check(checker.script("leaf"))


def command_line(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "offline_bundle", "build", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip


def test_the_command_says_it_in_words_and_as_json_also_of_a_read_only_bundle(
    checker: Checker, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = checker.script("leaf")
    script.write_text(script.read_text().replace(f'"=={HERE}"', f'"=={HERE}.*"'))  # no note
    arguments = (
        str(script),
        "-o",
        str(checker.bundle),
        "--default-index",
        checker.index.url,
        "--no-uv",
        "--check",
    )
    missing = command_line(*arguments)
    assert (missing.returncode, missing.stdout) == (OutOfDateError.exit_code, "")
    assert "is out of date\n  there is no bundle yet\n" in missing.stderr
    assert not checker.bundle.exists()
    checker.build(script)
    for folder, _, _ in os.walk(checker.bundle):
        Path(folder).chmod(0o555)
    fresh = command_line(*arguments, "--json")
    document = {"bundle": str(checker.bundle), "up-to-date": True, "changes": [], "notes": []}
    assert (fresh.returncode, json.loads(fresh.stdout)) == (0, document)
    make_wheel(packages, "leaf", "2.0")
    stale = command_line(*arguments, "--json")
    document = json.loads(stale.stdout)
    assert (stale.returncode, document["up-to-date"], document["error"]["code"]) == (9, False, 9)
    [change] = document["changes"]
    message = f"job for {TARGET}: leaf 1.0 → 2.0"
    assert change == {
        "kind": "package-changed", "message": message, "script": "job", "target": TARGET, "name": "leaf", "old": "1.0",
        "new": "2.0",
    }  # fmt: skip
    assert message in document["error"]["message"]


def test_a_format_missing_from_the_bundle_is_reported(checker: Checker, packages: Path) -> None:
    make_wheel(packages, "leaf")
    script = checker.script("leaf")
    checker.build(script)
    assert checker.messages(script, formats=("index", "cache")) == [
        "the bundle does not have the format cache yet"
    ]
    assert checker.messages(script, formats=("index",)) == []


def test_bytecode_that_a_build_adds_or_removes_is_a_change(
    checker: Checker, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = checker.script("leaf")
    checker.build(script, with_bytecode=False)
    assert checker.messages(script) == [f"the bundle has no bytecode for Python {HERE} yet"]
    assert checker.messages(script, with_bytecode=False) == []
    assert checker.messages(script, is_locked=True) == []
    checker.build(script)
    assert checker.messages(script) == []
    assert checker.messages(script, with_bytecode=False) == [
        "the bundle has bytecode, which --no-bytecode removes"
    ]
