"""The air-gapped side: a bundle and a script in, running jobs out. Imports `wheelhouse` only.

`submit` and `Jobs` are its Python interface; see `offline_bundle.runner.api`. They are imported at
first use, so that commands start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offline_bundle.runner.api import Jobs, submit

__all__ = ["Jobs", "submit"]


def __getattr__(name: str) -> object:
    """Import the Python interface."""
    if name in __all__:
        from offline_bundle.runner import api  # noqa: PLC0415 - commands do not need it

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
