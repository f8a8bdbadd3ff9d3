"""The command `help`: the manual of all commands, or of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_command(context: click.Context, /, *, command: str | None) -> None:
    """Show the manual of COMMAND, or of all commands, without a network.

    On a terminal it is shown page by page.
    """
    group = context.find_root()
    if not isinstance(group.command, click.Group):  # started alone, by a test
        raise click.UsageError("this command belongs to offline-bundle", context)
    pages = [group.get_help()] if command is None else []
    names = [command] if command else group.command.list_commands(group)
    click.echo_via_pager("\n\n\n".join([*pages, *_pages(group, group.command, names)]))


def _pages(context: click.Context, group: click.Group, names: list[str]) -> Iterator[str]:
    for name in names:
        _, command, _ = group.resolve_command(context, [name])
        if command is not None:
            yield click.Context(command, info_name=name, parent=context).get_help()
