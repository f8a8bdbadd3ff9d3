"""The list of system packages, and the tools that install them or hide their programs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import programs
from tools.system_packages import Package, describe_other_system, install_commands, read_list
from tools.without_programs import find_tests, link_programs

ROOT = Path(__file__).parents[3]


def test_list_is_sorted_and_names_each_program_once() -> None:
    packages = read_list()
    names = [package.name for package in packages]
    listed = [program for package in packages for program in package.programs]
    assert names == sorted(names)
    assert len(set(listed)) == len(listed)
    assert programs.listed() == set(listed)


def test_list_with_comments_and_blank_lines_is_read(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# comment\n\ngit\nopenssh-client  ssh-keygen ssh-add\n")
    assert read_list(tmp_path / "list") == [
        Package("git", ()),
        Package("openssh-client", ("ssh-keygen", "ssh-add")),
    ]


def test_install_commands_for_users_other_than_root_use_sudo() -> None:
    for command in install_commands(["jq"], as_root=False):
        assert command[0] == "sudo"
    assert install_commands(["jq", "zsh"], as_root=True)[1][-2:] == ["jq", "zsh"]


def test_other_systems_get_the_missing_programs_by_name() -> None:
    text = describe_other_system(
        [Package("nonesuch", ("no-such-program",)), Package("sh", ("sh",))]
    )
    assert re.findall(r"^  (\S+)$", text, re.MULTILINE) == ["no-such-program"]
    assert "nonesuch" in text


def test_require_with_a_missing_program_skips_with_the_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^jq: not installed; .*make system-packages"):
        programs.require("jq")


def test_require_with_a_missing_program_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"make system-packages"):
        programs.require("jq")


def test_require_with_an_unlisted_program_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match=r"not in system-packages\.txt: rsync"):
        programs.require("rsync")


def test_find_looks_in_the_sbin_folder_beside_a_bin_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = tmp_path / "sbin" / "nginx"
    daemon.parent.mkdir()
    daemon.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert programs.find("nginx") == str(daemon)


def test_summary_counts_the_skipped_tests_by_program() -> None:
    reason = f"Skipped: jq: not installed; {programs.HINT}"
    reports = [SimpleNamespace(longrepr=("test.py", 1, reason)) for _ in range(2)]
    other = SimpleNamespace(longrepr=("test.py", 1, "Skipped: needs root"))
    summary = programs.summarize([*reports, other])
    assert summary.startswith("2 tests were skipped for missing programs (jq: 2)")
    assert programs.summarize([other]) == ""


def test_linked_programs_leave_out_the_hidden_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "text").touch(0o644)
    links = tmp_path / "links"
    links.mkdir()
    link_programs(links, os.pathsep.join([str(tmp_path), str(tmp_path)]), frozenset({"b"}))
    assert [path.name for path in links.iterdir()] == ["a"]


def test_files_that_use_programs_are_found_directly_and_by_helpers(tmp_path: Path) -> None:
    support = tmp_path / "tests" / "support"
    support.mkdir(parents=True)
    (support / "server.py").write_text('program = require("nginx")')
    (support / "plain.py").write_text("")
    for name, text in {
        "direct": 'run(["jq"])',
        "helper": "from tests.support.server import x",
        "other": "from tests.support.plain import x\njquery = 1",
    }.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    names = [path.name for path in find_tests(tmp_path, frozenset({"jq", "nginx"}))]
    assert names == ["test_direct.py", "test_helper.py"]


def test_every_program_of_the_list_is_used_by_a_test() -> None:
    texts = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__)
    ]
    unused = [name for name in programs.listed() if not any(name in text for text in texts)]
    assert unused == []
