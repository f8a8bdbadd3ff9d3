"""Errors as GitHub annotations and as SARIF, at the lines of the scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.builder.cli.ci_reports import LocatedProblem, sarif
from offline_bundle.wheelhouse.runtime.errors import ResolveError
from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer
from tests.support.ci_reports_cases import build, results, script
from tests.support.sarif import sarif_validator

ROOT = Path(__file__).parents[4]


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


def test_errors_of_a_folder_stand_at_its_scripts(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "job.py").write_text("# /// script\n# dependancies = []\n# ///\n")
    outcome = build(tmp_path, "studies", "-o", "bundle", "--annotations", "github")
    assert outcome.code == 2
    assert "::error file=studies/job.py,line=2," in outcome.err


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


def sample_log() -> dict[str, Any]:
    return sarif(
        [
            LocatedProblem("bad-script", "wrong", Path("eval.py"), 3),
            LocatedProblem("failed", "worse", ROOT.parent / "b.py", 1),
        ],
        2,
    )


@pytest.mark.registry
def test_the_log_is_valid_by_the_schema_of_sarif() -> None:
    validator = sarif_validator()
    assert [error.message for error in validator.iter_errors(sample_log())] == []
    broken = sample_log()
    broken["runs"][0]["results"][0]["level"] = "fatal"
    assert not validator.is_valid(broken)
