"""Shell completion: in real shells on a terminal, and without needless imports."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from offline_bundle.cli import cli
from tests.support.completion_cases import bundle

__all__ = ["bundle"]


pytestmark = pytest.mark.measured


def completions(*words: str, incomplete: str = "") -> list[tuple[str, str]]:
    """What click offers, as (type, value)."""
    found = ShellComplete(cli, {}, "offline-bundle", "_X").get_completions(list(words), incomplete)
    return [(item.type, item.value) for item in found]


def offered(*words: str, incomplete: str = "") -> list[str]:
    found = completions(*words, incomplete=incomplete)
    assert {kind for kind, _ in found} <= {"plain"}
    return [value for _, value in found]


def test_bundles_are_completed_before_other_folders(bundle: Path) -> None:
    assert offered("run", "mine.py", "--bundle") == [bundle.name]
    assert offered("prune", incomplete="sh") == ["share"]
    assert offered("show", incomplete="sh") == ["share", "share.tar"]
    assert offered("verify") == ["share", "share.tar"]
    assert offered("verify", incomplete=f"{bundle.parent}/sha") == [
        f"{bundle.parent}/share",
        f"{bundle.parent}/share.tar",
    ]
    assert completions("prune", incomplete="oth") == [("dir", "oth")]
    assert completions("prune", incomplete="nowhere/x") == [("dir", "nowhere/x")]


@pytest.mark.usefixtures("bundle")
def test_scripts_of_the_bundle_are_completed() -> None:
    assert offered("run", "--bundle", "share") == [
        "mine.py",
        "share/scripts/eval.py",
        "share/scripts/study.py",
    ]
    assert offered("run", "--bundle", "share", incomplete="share/scripts/s") == [
        "share/scripts/study.py"
    ]
    assert offered("submit") == ["mine.py"]
    assert offered("prune", "share", "--drop-script") == ["eval", "study"]
    assert offered("prune", "share", "--drop-script", incomplete="s") == ["study"]


@pytest.mark.usefixtures("bundle")
def test_targets_are_completed() -> None:
    [target] = offered("prune", "share", "--drop-target")
    assert target.startswith("cp312-")
    assert "aarch64-manylinux_2_28" in offered(
        "build", "mine.py", "--python-platform", incomplete="aarch64"
    )


@pytest.mark.usefixtures("bundle")
def test_unreadable_bundle_completes_nothing() -> None:
    Path("share/bundle.json").write_text("{")
    assert offered("prune", "share", "--drop-target") == []
    assert offered("prune", "nosuch", "--drop-script") == []
    assert offered("run", "--bundle", "share") == ["mine.py"]


def test_every_completed_platform_is_valid() -> None:
    from offline_bundle.builder.inputs.targets import make_target
    from offline_bundle.wheelhouse.runtime.python.platforms import platform_names

    assert [make_target("3.12", name).platform for name in platform_names()] == list(
        platform_names()
    )


"""How each shell is started interactively, and what it reads then; zsh without `compinit`."""


def test_unknown_shell_is_rejected() -> None:
    from click.testing import CliRunner

    outcome = CliRunner().invoke(cli, ["completion", "tcsh"])
    assert outcome.exit_code == click.UsageError.exit_code
