"""The command `completion`."""

from __future__ import annotations

import click

_PROGRAMS = ("offline-bundle", "build-offline-bundle")
# zsh has no completion of commands without compinit.
_SETUP = {"zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"}


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
@click.pass_context
def completion_command(context: click.Context, *, shell: str) -> None:
    """Print a script that makes a shell complete commands, options, bundles and their contents.

    \b
    bash:  offline-bundle completion bash >> ~/.bashrc        (bash 4.4 or newer)
    zsh:   offline-bundle completion zsh >> ~/.zshrc
    fish:  offline-bundle completion fish >> ~/.config/fish/config.fish
    """  # noqa: D301 - \b makes click keep these lines
    from click.shell_completion import get_completion_class

    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise AssertionError(shell)
    if shell in _SETUP:
        click.echo(_SETUP[shell])
    for program in _PROGRAMS:
        variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
        shell_complete = completion_class(context.find_root().command, {}, program, variable)
        click.echo(shell_complete.source_template % shell_complete.source_vars())
