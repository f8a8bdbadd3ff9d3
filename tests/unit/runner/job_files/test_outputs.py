"""What patterns of outputs match, and which are refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.job_files import names
from offline_bundle.runner.job_files.output_checks import render_output_checks
from offline_bundle.runner.job_files.outputs import output_fault, plan_outputs
from offline_bundle.runner.standalone.job_rules import OWN_FILES

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("plot.png", "a b.png", ".hidden.png", "deep/plot.png", "deep/er/x.txt", "part-1", "part-x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "job" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "job" / name).write_text(name)
    return tmp_path / "job"


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("plot.png", ["plot.png"]),
        ("*.png", ["a b.png", "plot.png"]),
        (".*.png", [".hidden.png"]),
        ("*/*.png", ["deep/plot.png"]),
        ("deep/", ["deep/er/x.txt", "deep/plot.png"]),
        ("d*/", ["deep/er/x.txt", "deep/plot.png"]),
        ("part-[0-9]", ["part-1"]),
        ("part-[!0-9]", ["part-x"]),
        ("deep", []),
        ("PLOT.png", []),
    ],
)
def test_patterns(folder: Path, pattern: str, files: list[str]) -> None:
    outputs = plan_outputs([pattern])
    found = [path for path, _ in outputs.find(folder)]
    assert found == files
    assert outputs.problems(found) == ([] if files else [f"error: output is missing: {pattern}"])


def test_links_and_sizes(folder: Path) -> None:
    (folder / "link.png").symlink_to("deep/plot.png")
    (folder / "out.png").symlink_to("/etc/hostname")
    (folder / "dangling.png").symlink_to("none")
    os.mkfifo(folder / "pipe.png")
    assert plan_outputs(["*.png"]).find(folder) == [
        ("a b.png", 7),
        ("link.png", 13),
        ("plot.png", 8),
    ]
    (folder / "linked").symlink_to("deep")
    assert plan_outputs(["linked/", "linked/*.png"]).find(folder) == []
    limited = plan_outputs(["plot.png", "a b.png"], 7)
    assert limited.find(folder) == [("a b.png", 7)]
    assert limited.problems(["a b.png"]) == [
        "error: output is missing, or larger than 7 bytes: plot.png"
    ]


def test_files_of_engines_are_no_outputs(folder: Path) -> None:
    own = {names.CONSOLE_NAME, names.RECORD_NAME, names.INPUT_PARAMETERS}
    assert {*OWN_FILES} == own | {names.EXECUTION_SCRIPT, names.JOB_RULES}
    for name in OWN_FILES:
        (folder / name).write_text("")
    assert plan_outputs(["*.txt", "*.py", "*.json", ".*"]).find(folder) == [(".hidden.png", 11)]


def test_without_patterns_images_and_tables(folder: Path) -> None:
    (folder / "table.csv").write_text("1")
    outputs = plan_outputs([])
    assert [path for path, _ in outputs.find(folder)] == ["a b.png", "plot.png", "table.csv"]
    assert outputs.problems([]) == []
    assert render_output_checks(outputs) == ""


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("**/x", "has **: name a folder, such as plots/, for all files below it"),
        ("a[", "has brackets that are not like [a-z] or [!0-9]"),
        ("[$(x)]", "has brackets that are not like [a-z] or [!0-9]"),
        ("plots//", "is not a file name"),
        ("/", "is not a file name"),
        ("mesh", "is an input, too"),
        ("console_output.txt", "is a file that offline-bundle writes"),
        ("plots/", None),
        ("part-[0-9]*.d?t", None),
    ],
)
def test_faults(pattern: str, fault: str | None) -> None:
    assert output_fault(pattern, {"mesh"}) == fault


def test_a_leading_dot_is_the_folder_of_the_job() -> None:
    assert output_fault("./plot.png", ()) is None
    assert output_fault("./plot.png", {"plot.png"}) == "is an input, too"
    assert plan_outputs(["./plot.png", "plot.png", "./plots/"]).patterns == ("plot.png", "plots/")
    for name in ("./", ".", "././a", "./../a", "/./a"):
        assert output_fault(name, ())
