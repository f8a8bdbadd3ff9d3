"""PBS Professional and OpenPBS: jobs as subjobs of array jobs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from offline_bundle.runner.batch.engine import BatchEngine
from offline_bundle.runner.batch.options import BATCH_JOBS_OPTIONS, needs_directory
from offline_bundle.runner.engines.pbs.options import OPTIONS, check_usage
from offline_bundle.runner.engines.pbs.scheduler import Pbs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["JOBS_OPTIONS", "OPTIONS", "check_usage", "needs_directory", "open_engine"]

JOBS_OPTIONS = BATCH_JOBS_OPTIONS


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], notice: Callable[[str], None]) -> Iterator[BatchEngine]:
    """Yield the engine; there is nothing to open."""
    yield BatchEngine(Pbs(), options, notice)
