"""The help of commands: its option, and sections where there are many options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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


def write_sections(
    command: click.Command,
    context: click.Context,
    formatter: click.HelpFormatter,
    titles: Mapping[str, str],
) -> None:
    """Write the options of *command* by section; *titles* has parameter name -> title."""
    sections: dict[str, list[tuple[str, str]]] = {COMMON: []}
    for parameter in command.get_params(context):
        shown = parameter.get_help_record(context)
        if shown and isinstance(parameter, click.Option):
            title = titles.get(str(parameter.name), COMMON)
            sections.setdefault(title, []).append(shown)
    for title, shown_options in sections.items():
        with formatter.section(title):
            formatter.write_dl(shown_options)
