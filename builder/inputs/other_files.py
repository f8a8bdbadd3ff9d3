"""Name files that are not Python scripts, with the command that helps."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import Any

from offline_bundle.builder.inputs.notebooks import is_notebook

_ARCHIVES = (".tar", ".zip", ".gz", ".whl")
_SHELLS = (b"#!/bin/", b"#!/usr/bin/env bash", b"#!/usr/bin/env sh")
_FROM_HERE = {
    re.compile(r"requirements.*\.(txt|in)"): ("a requirements file", "--requirements"),
    re.compile(r"pyproject\.toml"): ("the file of a project", "--project"),
    re.compile(r"pylock(\..+)?\.toml"): ("a lock file (PEP 751)", "--pylock"),
}


def describe_other(path: Path, source: bytes) -> str | None:
    """Return what *path* is instead of a script, and a command that helps; None for a script."""
    name = path.name
    for pattern, (kind, option) in _FROM_HERE.items():
        if pattern.fullmatch(name):
            return (
                f"{kind}; name the script too: build-offline-bundle SCRIPT {option} {quote(name)}"
            )
    if name == "uv.lock" or name.endswith(".py.lock"):
        return "a lock of uv; name its script, or --project for the lock of a project"
    if path.suffix in _ARCHIVES:
        return "an archive; `offline-bundle unpack` and `show` take archives of bundles"
    if path.suffix in {".yml", ".yaml"}:
        return _describe_yaml(source)
    return _describe_content(path, source)


def _describe_content(path: Path, source: bytes) -> str | None:
    if path.suffix == ".ipynb" or is_notebook(source):
        return f"a notebook without metadata; add it: uvx juv add {quote(path.name)} PACKAGE"
    if source.startswith(_SHELLS):
        return "a shell script; name the Python script that it starts"
    return None


def _describe_yaml(source: bytes) -> str:
    packages = _conda_packages(source)
    if packages is None:
        return "a YAML file, not a Python script; name the script"
    words = " ".join(packages) or "PACKAGE"
    return (
        "a conda environment; add its packages to the script, by their names on the package "
        f"index: uv add --script SCRIPT {words}"
    )


def _conda_packages(source: bytes) -> list[str] | None:
    """Return the names of the packages of a conda environment, without Python and pip itself."""
    import yaml  # noqa: PLC0415 - slow to import, and scripts need none

    try:
        document = yaml.safe_load(source[:100_000])
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("dependencies"), list):
        return None
    entries = list(document["dependencies"])
    for entry in document["dependencies"]:
        if isinstance(entry, dict) and isinstance(entry.get("pip"), list):
            entries += entry["pip"]
    names = map(_conda_name, entries)
    return [name for name in names if name not in {"", "python", "pip"}]


def _conda_name(entry: Any) -> str:  # noqa: ANN401 - any YAML value
    match = re.match(r"(?:[\w.-]+::)?([\w.-]+)", entry) if isinstance(entry, str) else None
    return match[1] if match else ""
