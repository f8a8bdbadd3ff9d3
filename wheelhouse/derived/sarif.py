"""Findings as SARIF 2.1.0: https://docs.oasis-open.org/sarif/sarif/v2.1.0/. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offline_bundle import __version__

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif_log(
    rules: Mapping[str, str], results: Sequence[Mapping[str, Any]], invocation: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the log of one run; *rules* has the text of each rule by its id."""
    driver = {
        "name": "offline-bundle",
        "version": __version__,
        "rules": [
            {"id": rule, "shortDescription": {"text": text}} for rule, text in sorted(rules.items())
        ],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
