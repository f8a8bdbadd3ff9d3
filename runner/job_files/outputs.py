"""The output files of jobs, as `--output` names them.

    plot.png        this file
    plots/*.png     at least one file; `*`, `?` and `[a-z]` match within one name, not a first dot
    plots/          at least one file below this folder; all of them are collected

An output is a regular file, or a link to one inside the job's folder: no pipe, no input, no file of
an engine, and nothing that is reached through a linked folder. Without
any pattern, the images and tables in the job's folder are collected, up to a size, and none is
required. `runner/standalone/job_rules.py` applies the rule; it runs on HPS nodes, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from offline_bundle.runner.standalone.job_rules import OWN_FILES, Outputs

DEFAULT_PATTERNS = tuple(
    f"*.{suffix}"
    for suffix in (
        *("png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "pdf"),
        *("csv", "tsv", "xlsx", "parquet"),
    )
)
DEFAULT_LIMIT = 64 << 20
"""In bytes, for each file."""

_BRACKETS = re.compile(r"\[!?[\w.-]+\]")


def plan_outputs(named: Sequence[str], limit: int | None = None) -> Outputs:
    """Return the outputs that are named, or else the default."""
    if named:
        return Outputs(tuple(dict.fromkeys(name.removeprefix("./") for name in named)), limit)
    return Outputs(DEFAULT_PATTERNS, limit or DEFAULT_LIMIT, required=False)


def output_fault(name: str, inputs: Collection[str]) -> str | None:
    """Return what is wrong with the pattern of an output, or None."""
    name = name.removeprefix("./")
    path = PurePosixPath(name)
    if not path.name or name.removesuffix("/") != str(path) or re.search(r"[\x00-\x1f\\]", name):
        return "is not a file name"
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        return "leaves the job's directory"
    if "**" in name:
        return "has **: name a folder, such as plots/, for all files below it"
    if "[" in _BRACKETS.sub("", name) or "]" in _BRACKETS.sub("", name):
        return "has brackets that are not like [a-z] or [!0-9]"
    if name in OWN_FILES:
        return "is a file that offline-bundle writes"
    return "is an input, too" if name in inputs else None
