"""Severity of an advisory: the CVSS base score computed from its vector, as a number and a word.

    base_score("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")      # 9.8
    rating(9.8)                                                     # "critical"

CVSS 3.0 and 3.1 vectors are computed. Other versions need tables of hundreds of entries: for these,
the word that the advisory itself gives is used, if there is one. Pure.
"""

from __future__ import annotations

import math
from functools import lru_cache

_WEIGHTS = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {
    "U": {"N": 0.85, "L": 0.62, "H": 0.27},
    "C": {"N": 0.85, "L": 0.68, "H": 0.5},
}
_RATINGS = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))
_WORDS = {"CRITICAL": "critical", "HIGH": "high", "MODERATE": "medium", "MEDIUM": "medium"}
ORDER = ("critical", "high", "medium", "low", "none", "unknown")
"""From the worst on. An unknown severity is not a low one; it is listed last."""


@lru_cache(maxsize=10_000)
def base_score(vector: str) -> float | None:
    """Return the base score of a CVSS 3 vector; None for another version or a malformed vector."""
    head, *parts = vector.strip().split("/")
    if head not in {"CVSS:3.0", "CVSS:3.1"}:
        return None
    metrics = dict(part.partition(":")[::2] for part in parts)
    try:
        weights = {name: values[metrics[name]] for name, values in _WEIGHTS.items()}
        scope = metrics["S"]
        privileges = _PRIVILEGES[scope][metrics["PR"]]
    except KeyError:
        return None
    damage = 1 - (1 - weights["C"]) * (1 - weights["I"]) * (1 - weights["A"])
    changed = scope == "C"
    impact = 7.52 * (damage - 0.029) - 3.25 * (damage - 0.02) ** 15 if changed else 6.42 * damage
    if impact <= 0:
        return 0.0
    exploitability = 8.22 * weights["AV"] * weights["AC"] * privileges * weights["UI"]
    total = impact + exploitability
    return _round_up(min(1.08 * total if changed else total, 10))


def rating(score: float) -> str:
    """Return the qualitative rating of a base score (CVSS 3.1, section 5)."""
    return next((word for least, word in _RATINGS if score >= least), "none")


def worded(text: str) -> str:
    """Return the rating for an advisory's own word, such as `MODERATE`; else `unknown`."""
    return _WORDS.get(text.upper(), "low" if text.upper() == "LOW" else "unknown")


def _round_up(value: float) -> float:
    """Round up to one decimal in integers, as CVSS 3.1 appendix A does."""
    scaled = round(value * 100_000)
    return scaled / 100_000 if scaled % 10_000 == 0 else (math.floor(scaled / 10_000) + 1) / 10
