"""Run functions in threads: as many as this process may use CPUs."""

import os

from .errors import BundleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from typing import Optional, TypeVar

    _Item = TypeVar("_Item")
    _Result = TypeVar("_Result")
    Progress = Optional[Callable[[int], None]]

_SMALL = 128 * 1024
_MOST_WORKERS = 4


def cpus(limit: "Optional[int]" = None) -> int:
    """Return how many CPUs this process may use, at most *limit*."""
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return usable if limit is None else min(limit, usable)


def parallel_map(
    function: "Callable[[_Item], _Result]",
    items: "Iterable[_Item]",
    size: "Optional[Callable[[_Item], int]]" = None,
) -> "list[tuple[_Item, _Result]]":
    """Apply *function* to each item in threads; return (item, result) pairs, in any order.

    Items of a small *size* (bytes) are handled in this thread (`is_small`).
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(cpus(_MOST_WORKERS)) as pool:
        done, futures = [], []
        try:
            for item in items:
                if size and is_small(size(item)):
                    done.append((item, function(item)))
                else:
                    futures.append((item, pool.submit(function, item)))
            return [*done, *((item, future.result()) for item, future in futures)]
        except BaseException:
            for _, future in futures:
                future.cancel()
            raise


def is_small(size: int) -> bool:
    """Return True below the size in bytes where threading overhead outweighs the gain."""
    return size < _SMALL


def serialized_progress(progress: "Progress") -> "Progress":
    """Wrap *progress* so that one thread at a time calls it."""
    if progress is None:
        return None
    import threading

    report, lock = progress, threading.Lock()

    def advance(count: int) -> None:
        with lock:
            report(count)

    return advance


def gather(futures: "Iterable[Future[_Result]]") -> "list[_Result]":
    """Return all results in order; raise one error that combines the BundleErrors of all."""
    waiting = list(futures)
    exceptions = [future.exception() for future in waiting]
    errors = [error for error in exceptions if isinstance(error, BundleError)]
    if not errors:
        return [future.result() for future in waiting]
    if len(errors) == 1:
        raise errors[0]
    problems = [
        line
        for error in errors
        for line in (error.message, *(f"  {problem}" for problem in error.problems))
    ]
    hints = dict.fromkeys(error.hint for error in errors if error.hint)
    kind = type(min(errors, key=lambda error: error.exit_code))
    message = f"{len(errors)} of {len(waiting)} failed"
    raise kind(message, problems=problems, hint="\n".join(hints) or None)
