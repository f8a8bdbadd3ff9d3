from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.inputs.scripts import read_script
from offline_bundle.builder.inputs.targets import make_target
from offline_bundle.builder.resolve.uv_messages import UvFailure, resolve_error
from offline_bundle.wheelhouse.runtime.errors import FetchError
from tests.support.distributions import make_buildable_sdist

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.uv_cases import Workshop, trap, workshop

__all__ = ["workshop"]


@pytest.mark.parametrize(
    "line",
    ['no-binary-package = ["source"]', "no-binary = true"],
)
def test_a_script_cannot_lift_the_ban_on_building(
    workshop: Workshop, packages: Path, tmp_path: Path, line: str
) -> None:
    make_buildable_sdist(packages, "source", code=trap(tmp_path))
    text = workshop.fails(workshop.script("source", tool=f"[tool.uv]\n{line}"), FetchError)
    assert "job.py requires building" in text
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "error: Failed to initialize cache at `/.cache/uv`\n  Caused by: Permission denied",
        "error: failed to create directory `/.cache/uv`: Permission denied (os error 13)",
        "error: Failed to write to the cache\n  cause: No space left on device (os error 28)",
        "error: Read-only file system (os error 30)",
        "error: Disk quota exceeded (os error 122)",
        "error: Too many open files (os error 24)",
    ],
)
def test_trouble_of_the_machine_is_exit_1(workshop: Workshop, text: str) -> None:
    script = read_script(workshop.script("thing"))
    failure = UvFailure(script, make_target("3.12", "linux"), text)
    error = resolve_error(failure, Credentials())
    assert error.exit_code == 1
    assert "UV_CACHE_DIR" in (error.hint or "")


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        (
            "error: Received some unexpected JSON from `https://index.example/simple/thing/`\n"
            "  cause: EOF while parsing a string at line 1 column 8",
            4,
            "check the index's address",
        ),
        (
            "error: Failed to download `thing==1.0`\n  cause: `RECORD` file is invalid",
            4,
            "publish a correct wheel",
        ),
        (
            "error: No solution found when resolving dependencies\n  cause: Because there are no "
            "versions of thing and\n  job depends on thing, we can conclude",
            3,
            "sign-in page",
        ),
        (
            "error: No solution found when resolving dependencies\n  cause: Because there is no "
            "version of thing==9 and job depends on thing==9, we can conclude",
            3,
            "dates of the build",
        ),
    ],
)
def test_odd_answers_of_an_index(workshop: Workshop, text: str, code: int, hint: str) -> None:
    script = read_script(workshop.script("thing"))
    error = resolve_error(UvFailure(script, make_target("3.12", "linux"), text), Credentials())
    assert error.exit_code == code
    assert hint in (error.hint or "")
    assert ("sign-in" in (error.hint or "")) == (hint == "sign-in page")
