"""The command line in this process: the same results as a command, without its start."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import offline_bundle.builder.fetch.http  # noqa: F401 - a build loads it in a thread, whose warnings pytest would make errors of
from offline_bundle.cli import cli, run_command_line

if TYPE_CHECKING:
    from pathlib import Path

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class Told:
    """How a command ended, and everything it said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def call(*words: object) -> Told:
    """Run `offline-bundle WORDS…` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command_line(cli, [str(word) for word in words], "offline-bundle")
    return Told(code, out.getvalue(), err.getvalue())


def write_script(
    folder: Path, *dependencies: str, tool: str = "", name: str = "job", python: str = f"=={HERE}"
) -> Path:
    """Write NAME.py with a header, *tool* being further lines of it."""
    header = [
        f'requires-python = "{python}"',
        f"dependencies = {list(dependencies)!r}",
        *tool.splitlines(),
    ]
    path = folder / f"{name}.py"
    path.write_text(
        "# /// script\n" + "".join(f"# {line}".rstrip() + "\n" for line in header) + "# ///\n"
    )
    return path


def read_bundle(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    return manifest


def versions(bundle: Path, script: str = "job") -> dict[str, str]:
    """Package -> version in the script's only lock."""
    [lock] = read_bundle(bundle)["scripts"][script]["locks"].values()
    return {name: package["version"] for name, package in lock["packages"].items()}


def indexes(bundle: Path) -> dict[str, str | None]:
    """Package -> the index that the manifest says it came from, without the last slash."""
    files = read_bundle(bundle)["files"].values()
    return {
        file["name"]: (file["source"].get("index") or "").rstrip("/") or None
        for file in files
        if file.get("source")
    }
