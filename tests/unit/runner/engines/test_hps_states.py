"""States of HPS in the words of all engines."""

from __future__ import annotations

from offline_bundle.runner.engines.hps.projects import count_states


def test_states_are_those_of_all_engines_and_new_ones_are_kept_in_order() -> None:
    states = {"napping": 1, "failed": 2, "evaluated": 3, "running": 1, "prolog": 1, "aborted": 2}
    counts = count_states({"eval_status": {**states, "timeout": 0}})
    assert counts.describe() == "2 running, 3 done, 2 failed, 2 cancelled, 1 napping"
    assert (counts.total, counts.under_way, counts.finished, counts.failed) == (10, 2, 8, 4)
    assert count_states(None).describe() == "no jobs"
