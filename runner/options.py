"""Command-line options that several engines or commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _AliasedOption(click.Option):
    """An option with old names: `--help` shows the last name only."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the help without the old names."""
        names, self.opts = self.opts, self.opts[-1:]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


PARALLEL: Decorator = click.option(
    "--parallel", type=click.IntRange(min=1), metavar="N", help="Jobs that run at a time."
)
NO_NETWORK: Decorator = click.option(
    "--sealed",  # the old name  # words: allow
    "--no-network",
    "no_network",
    cls=_AliasedOption,
    is_flag=True,
    help="Run without a network: only loopback is available.",
)
PYTHON: Decorator = click.option(
    "--python",
    metavar="PATH",
    help="Interpreter to use, or its version (3.12).  [default: search for one that fits]",
)
