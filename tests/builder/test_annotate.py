"""Errors as GitHub annotations and as SARIF, at the lines of the scripts."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from offline_bundle.builder.cli.ci_reports import (
    Finding,
    collect_findings,
    github_annotations,
    sarif,
)
from offline_bundle.wheelhouse.runtime.errors import InputError, ResolveError
from tests.support.command_line import HERE, Told, call
from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer

ROOT = Path(__file__).parents[2]


def script(path: Path, *dependencies: str) -> Path:
    lines = ["#!/usr/bin/env python3", "# /// script", "# dependencies = ["]
    lines += [f"#   {json.dumps(text)}," for text in dependencies]
    path.write_text("\n".join([*lines, "# ]", f'# requires-python = "=={HERE}"', "# ///", ""]))
    return path


def build(folder: Path, *arguments: str) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return call("build", *arguments)


def results(path: Path) -> list[tuple[str, str, int]]:
    [run] = json.loads(path.read_text())["runs"]
    found = []
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        found.append(
            (result["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"])
        )
    return found


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


def test_what_cannot_be_resolved_stands_at_the_requirement(
    tmp_path: Path, index: IndexServer, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script(tmp_path / "job.py", "leaf", "Absent.Thing>=2")
    arguments = (
        "job.py",
        "-o",
        "bundle",
        "--no-uv",
        "--default-index",
        index.url,
        "--sarif",
        "out.sarif",
    )
    outcome = build(tmp_path, *arguments, "--annotations", "github", "--json")
    assert outcome.code == ResolveError.exit_code
    assert json.loads(outcome.out)["error"]["code"] == ResolveError.exit_code
    assert (
        "::error file=job.py,line=5,title=unresolvable::job.py cannot be resolved for cp"
        in outcome.err
    )
    assert results(tmp_path / "out.sarif") == [("unresolvable", "job.py", 5)]
    script(tmp_path / "job.py", "leaf")
    assert build(tmp_path, *arguments).code == 0
    assert results(tmp_path / "out.sarif") == []


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_out_of_date_bundle_stands_at_the_script(
    tmp_path: Path, index: IndexServer, packages: Path, form: tuple[str, ...]
) -> None:
    make_wheel(packages, "other")
    make_wheel(packages, "leaf")
    script(tmp_path / "job.py", "other", "leaf")
    arguments = ("job.py", "-o", "bundle", "--no-uv", "--default-index", index.url)
    assert build(tmp_path, *arguments).code == 0
    make_wheel(packages, "leaf", "2.0")
    outcome = build(
        tmp_path, *arguments, "--check", *form, "--sarif", "out.sarif", "--annotations", "github"
    )
    assert outcome.code == 9
    assert results(tmp_path / "out.sarif") == [("out-of-date", "job.py", 5)]
    assert ": leaf 1.0 → 2.0" in outcome.err


def test_a_sarif_file_that_cannot_be_written_is_said_before_anything_is_done(
    tmp_path: Path,
) -> None:
    outcome = build(tmp_path, "none.py", "-o", "bundle", "--sarif", "absent/out.sarif")
    assert outcome.code == InputError.exit_code
    assert "--sarif absent/out.sarif: no such folder: absent" in outcome.err


def test_no_text_can_end_an_annotation_and_begin_another() -> None:
    text = github_annotations(
        [Finding("failed", "100%\r\n::set-output name=x::y", Path("a,b:c.py"), 1)]
    )
    assert (
        text
        == "::error file=a%2Cb%3Ac.py,line=1,title=failed::100%25%0D%0A::set-output name=x::y\n"
    )


def test_errors_of_several_scripts_told_together_are_told_apart(tmp_path: Path) -> None:
    paths = [script(tmp_path / name, "leaf") for name in ("one.py", "two.py")]
    problems = [
        f"{path} cannot be resolved for cp312-x" if part == 0 else "  because leaf"
        for path in paths
        for part in (0, 1)
    ]
    found = collect_findings(
        ResolveError("2 of 2 failed", problems=problems, hint="try again"), paths
    )
    assert [(one.path, one.line) for one in found] == [(paths[0], 4), (paths[1], 4)]
    assert found[0].message == "cannot be resolved for cp312-x\n  because leaf\ntry again"


def sample_log() -> dict[str, Any]:
    return sarif(
        [
            Finding("bad-script", "wrong", Path("eval.py"), 3),
            Finding("failed", "worse", ROOT.parent / "b.py", 1),
        ],
        2,
    )


@pytest.mark.registry
def test_the_log_is_valid_by_the_schema_of_sarif(tmp_path: Path) -> None:
    """The standard's own schema, out of an npm package of its authors."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which brings the schema of SARIF, is not on this machine")
    command = [
        npm,
        "pack",
        "--silent",
        "--pack-destination",
        str(tmp_path),
        "@microsoft/jest-sarif@1.0.0-beta.0",
    ]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        env={**os.environ, "npm_config_cache": str(tmp_path / "npm")},
    )
    archive = next(tmp_path.glob("*.tgz")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        member = package.extractfile("package/lib/schemas/sarif-2.1.0-rtm.5.json")
        assert member
        schema = json.load(member)
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(sample_log())] == []
    broken = sample_log()
    broken["runs"][0]["results"][0]["level"] = "fatal"
    assert not validator.is_valid(broken)
