"""The help of commands: its option, and sections where there are many options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

SETTINGS = {"help_option_names": ["-h", "--help"]}
"""Settings of click for the commands that programs start with."""
COMMON = "Options"
"""Title of the section of options that are in no other, such as `--help`."""


def parameters_of(options: Iterable[Callable[..., Any]]) -> list[click.Option]:
    """Return the parameters that decorators of click add to a command, in order."""

    def function() -> None:
        pass

    added: Callable[..., Any] = function
    for option in options:
        added = option(added)
    return list(getattr(added, "__click_params__", ()))


class SectionedCommand(click.Command):
    """A command whose help has sections; *titles* has parameter name -> title of its section."""

    def __init__(
        self,
        name: str | None,
        titles: Mapping[str, str],
        **settings: Any,  # noqa: ANN401 - click's
    ) -> None:
        super().__init__(name, **settings)
        self._titles = titles

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options by section."""
        sections: dict[str, list[tuple[str, str]]] = {COMMON: []}
        for parameter in self.get_params(ctx):
            shown = parameter.get_help_record(ctx)
            if shown and isinstance(parameter, click.Option):
                title = self._titles.get(str(parameter.name), COMMON)
                sections.setdefault(title, []).append(shown)
        for title, shown_options in sections.items():
            with formatter.section(title):
                formatter.write_dl(shown_options)
