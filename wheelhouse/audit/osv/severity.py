"""Severity of an advisory: the CVSS base score of its vectors, as a number and a word. Pure.

    worst(["CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"], "")     # Severity("critical", 9.8, ...)

Vectors of CVSS 2, 3.0, 3.1 and 4.0 are computed. Without one, the word that the advisory itself
gives is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_RATINGS = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))
_WORDS = {
    "CRITICAL": "critical",
    "HIGH": "high",
    "MODERATE": "medium",
    "MEDIUM": "medium",
    "LOW": "low",
}


class Severity(NamedTuple):
    """How bad a vulnerability is."""

    rating: str
    """One of `audit_result.SEVERITIES`."""
    score: float | None = None
    """CVSS base score, None without a vector that can be computed."""
    vector: str | None = None


def worst(vectors: Iterable[str], word: str) -> Severity:
    """Return the worst severity of *vectors*; without any, that of *word*, such as `MODERATE`."""
    scores = {vector: base_score(vector) for vector in vectors}
    known = {vector: score for vector, score in scores.items() if score is not None}
    if not known:
        return Severity(_WORDS.get(word.upper(), "unknown"))
    vector = max(known, key=known.__getitem__)
    return Severity(_rating(known[vector], vector), known[vector], vector)


@lru_cache(maxsize=10_000)
def base_score(vector: str) -> float | None:
    """Return the base score of a CVSS vector; None for a malformed one."""
    from cvss import CVSS2, CVSS3, CVSS4, CVSSError  # type: ignore[import-untyped]  # noqa: PLC0415 - only where needed

    kinds = {"CVSS:4": CVSS4, "CVSS:3": CVSS3}
    try:
        return float(kinds.get(vector[:6], CVSS2)(vector).base_score)
    except CVSSError:
        return None


def _rating(score: float, vector: str) -> str:
    """Return the qualitative rating: CVSS 3.1, section 5; CVSS 2 ends with high."""
    word = next((word for least, word in _RATINGS if score >= least), "none")
    return "high" if word == "critical" and not vector.startswith("CVSS:") else word
