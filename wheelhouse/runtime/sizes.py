"""Sizes in bytes as text: one parser and one display, both in powers of 1024."""

import re

from .errors import InputError

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) *([kmgt]?)(?:i?b)?")
_UNITS = ("", "K", "M", "G", "T")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as `700M`, `1.5G`, `4 GiB` or `104857600`.

    `4G`, `4GB` and `4GiB` are the same: 4 * 1024**3. Raises InputError for anything else.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if not match:
        raise InputError(f"invalid size {text!r}", hint="use a number with K, M, G or T, like 4G")
    factor = 1024 ** _UNITS.index(match[2].upper())
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def format_size(size: int) -> str:
    """Return a size with at most one decimal and its unit: `40.7 MiB`, `4 GiB`, `999 B`."""
    value = float(size)
    unit = 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:  # 1023.95 would be shown as 1024.0
        value /= 1024
        unit += 1
    number = f"{value:.1f}".removesuffix(".0")
    return f"{number} {_UNITS[unit]}iB" if unit else f"{size} B"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 file`, `1,234 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
