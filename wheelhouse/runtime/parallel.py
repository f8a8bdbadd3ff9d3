"""Run functions in threads."""

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


def parallel_map(
    function: "Callable[[_Item], _Result]",
    items: "Iterable[_Item]",
    size: "Optional[Callable[[_Item], int]]" = None,
) -> "list[tuple[_Item, _Result]]":
    """Apply *function* to each item, several at a time: hashing and reading leave the interpreter to others.

    *items* may still be in the making: that happens in this thread, while the others work on those made before. So do
    items of a small *size* (`is_small`).
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(usable_workers()) as pool:
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
    """Whether threads that take turns at something of *size* bytes stand in each other's way."""
    return size < _SMALL


def usable_workers() -> int:
    """Threads that are worth their while: as many as CPUs that this process may use, but few."""
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(_MOST_WORKERS, usable)


def serialized_progress(progress: "Progress") -> "Progress":
    """Wrap *progress* so that several threads may tell it."""
    if progress is None:
        return None
    import threading

    tell, lock = progress, threading.Lock()

    def advance(count: int) -> None:
        with lock:
            tell(count)

    return advance


def gather(futures: "Iterable[Future[_Result]]") -> "list[_Result]":
    """Return all results in order; raise one error that combines the BundleErrors of all futures."""
    waiting = list(futures)
    errors = [error for error in map(_exception, waiting) if isinstance(error, BundleError)]
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


def _exception(future: "Future[_Result]") -> "Optional[BaseException]":
    return future.exception()
