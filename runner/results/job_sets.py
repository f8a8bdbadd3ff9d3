"""Sets of job numbers as the bits of an int: `0b1010` has the jobs 1 and 3.

Union, difference and size take microseconds for 10,000 jobs, however many are in a set.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence


def job_set(numbers: Sequence[int]) -> int:
    """Return the set of these numbers."""
    digits = bytearray(b"0") * (max(numbers, default=0) + 1)
    for number in numbers:
        digits[-1 - number] = ord("1")
    return int(digits, 2)


def jobs_between(first: int, last: int) -> int:
    """Return the set of the numbers from *first* to *last*."""
    return (1 << last + 1) - (1 << first)


def members(jobs: int) -> Iterator[int]:
    """Yield the numbers in a set, ascending."""
    for first, last in ranges(jobs):
        yield from range(first, last + 1)


def ranges(jobs: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of each run of consecutive numbers."""
    bits = f"{jobs:b}"[::-1] + "0"
    first = bits.find("1")
    while first >= 0:
        end = bits.find("0", first)
        yield first, end - 1
        first = bits.find("1", end)


@functools.lru_cache(maxsize=256)  # a queue prints the same at most polls
def parse_indices(text: str) -> int:
    """Return the set that is written as `1-3,7,10-20:5%4`: 1, 2, 3, 7, 10, 15 and 20."""
    jobs = 0
    for part in text.partition("%")[0].strip("[]").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match:
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            more = jobs_between(first, last) if step == 1 else job_set(range(first, last + 1, step))
            jobs |= more
    return jobs


def format_indices(jobs: int) -> str:
    """Write a set as schedulers read it: `1-3,7`."""
    return ",".join(
        f"{first}-{last}" if last > first else f"{first}" for first, last in ranges(jobs)
    )
