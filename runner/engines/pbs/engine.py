"""PBS Professional and OpenPBS: jobs as subjobs of array jobs."""

from __future__ import annotations

from offline_bundle.runner.batch.engine import opener
from offline_bundle.runner.batch.options import BATCH_JOBS_OPTIONS as JOBS_OPTIONS
from offline_bundle.runner.batch.options import needs_directory
from offline_bundle.runner.engines.pbs.options import OPTIONS, check_usage
from offline_bundle.runner.engines.pbs.scheduler import Pbs

__all__ = ["JOBS_OPTIONS", "OPTIONS", "check_usage", "needs_directory", "open_engine"]

open_engine = opener(Pbs)
