"""Errors as GitHub annotations and as SARIF, at the lines of the scripts."""

from __future__ import annotations

from pathlib import Path

from offline_bundle.builder.cli.ci_reports import (
    LocatedProblem,
    github_annotations,
    locate_problems,
)
from offline_bundle.wheelhouse.runtime.errors import InputError, ResolveError
from tests.support.ci_reports_cases import build, results, script


def test_every_fault_of_every_script_stands_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "in here").mkdir()
    script(tmp_path / "one.py", "fine", "not a requirement", ">=2")
    script(tmp_path / "in here" / "two,x.py", "also wrong!")
    arguments = (
        "one.py",
        "in here/two,x.py",
        "-o",
        "bundle",
        "--annotations",
        "github",
        "--sarif",
        "out.sarif",
    )
    outcome = build(tmp_path, *arguments)
    assert outcome.code == InputError.exit_code
    commands = [
        line.split("::")[1] for line in outcome.err.splitlines() if line.startswith("::error ")
    ]
    assert commands == [
        "error file=one.py,line=5,title=bad-script",
        "error file=one.py,line=6,title=bad-script",
        "error file=in here/two%2Cx.py,line=4,title=bad-script",
    ]
    assert results(tmp_path / "out.sarif") == [
        ("bad-script", "one.py", 5),
        ("bad-script", "one.py", 6),
        ("bad-script", "in%20here/two%2Cx.py", 4),
    ]


def test_a_sarif_file_that_cannot_be_written_is_said_before_anything_is_done(
    tmp_path: Path,
) -> None:
    outcome = build(tmp_path, "none.py", "-o", "bundle", "--sarif", "absent/out.sarif")
    assert outcome.code == InputError.exit_code
    assert "--sarif absent/out.sarif: no such folder: absent" in outcome.err


def test_no_text_can_end_an_annotation_and_begin_another() -> None:
    text = github_annotations(
        [LocatedProblem("failed", "100%\r\n::set-output name=x::y\x1b[2J", Path("a,b:c.py"), 1)]
    )
    assert (
        text
        == "::error file=a%2Cb%3Ac.py,line=1,title=failed::100%25\\r%0A::set-output name=x::y\\x1b[2J\n"
    )


def test_errors_of_several_scripts_told_together_are_told_apart(tmp_path: Path) -> None:
    paths = [script(tmp_path / name, "leaf") for name in ("one.py", "two.py")]
    problems = [
        f"{path} cannot be resolved for cp312-x" if part == 0 else "  because leaf"
        for path in paths
        for part in (0, 1)
    ]
    found = locate_problems(
        ResolveError("2 of 2 failed", problems=problems, hint="try again"), paths
    )
    assert [(one.path, one.line) for one in found] == [(paths[0], 4), (paths[1], 4)]
    assert found[0].message == "cannot be resolved for cp312-x\n  because leaf\ntry again"
