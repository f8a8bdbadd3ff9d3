"""The command `completion`: what a shell is told to complete our words by."""

from __future__ import annotations

import click

_PROGRAMS = ("offline-bundle", "build-offline-bundle")
_FIRST = {"zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"}
"""What a shell needs beforehand: zsh has no completion of commands until it is asked for it."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
@click.pass_context
def completion_command(context: click.Context, *, shell: str) -> None:
    """Print what makes SHELL complete commands, options, bundles and what is in them.

    \b
    bash:  offline-bundle completion bash >> ~/.bashrc        (bash 4.4 or newer)
    zsh:   offline-bundle completion zsh >> ~/.zshrc
    fish:  offline-bundle completion fish >> ~/.config/fish/config.fish
    """  # noqa: D301 - \b is click's sign for lines to keep
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise AssertionError(shell)
    if shell in _FIRST:
        click.echo(_FIRST[shell])
    for program in _PROGRAMS:
        variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
        shell_complete = made(context.find_root().command, {}, program, variable)
        click.echo(shell_complete.source_template % shell_complete.source_vars())
