"""Sets of job numbers as bits, compared with Python's own sets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from offline_bundle.runner.results.job_sets import (
    format_indices,
    job_set,
    jobs_between,
    members,
    parse_indices,
    ranges,
)


@given(st.sets(st.integers(0, 300)))
def test_a_set_has_its_members_in_order_and_can_be_written_and_read(numbers: set[int]) -> None:
    jobs = job_set(list(numbers))
    assert list(members(jobs)) == sorted(numbers)
    assert jobs.bit_count() == len(numbers)
    assert parse_indices(format_indices(jobs)) == jobs
    runs = list(ranges(jobs))
    assert all(end + 1 < start for (_, end), (start, _) in itertools.pairwise(runs))


def test_a_span_is_one_range() -> None:
    assert list(ranges(jobs_between(3, 9000))) == [(3, 9000)]
    assert list(ranges(0)) == []
    assert parse_indices("1-9:4") == job_set([1, 5, 9])
