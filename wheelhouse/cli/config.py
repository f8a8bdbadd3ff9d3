"""The command `config`."""

from __future__ import annotations

from pathlib import Path

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_bundles
from offline_bundle.wheelhouse.cli.kit.options import json_option


@click.command("config")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    shell_complete=complete_bundles,
    help="Include the settings of this bundle.  [default: that of the setting bundle]",
)
@json_option
def config_command(*, bundle: Path | None, as_json: bool) -> None:
    """Show the settings, and the variable or file that sets each.

    Options of the command line override variables, and these override files.
    """
    from offline_bundle.wheelhouse.cli.kit.output import print_json, print_table
    from offline_bundle.wheelhouse.cli.kit.settings import KNOWN, read_settings

    values = read_settings(bundle)
    if as_json:
        print_json(
            {key: {"value": value.value, "origin": value.origin} for key, value in values.items()}
        )
        return
    rows = []
    for key, setting in KNOWN.items():
        value = values[key].value if key in values else ""
        shown = ", ".join(value) if isinstance(value, list) else value
        origin = values[key].origin if key in values else "not set"
        rows.append((key, shown, origin, setting.description))
    print_table(("setting", "value", "set by", "default for"), rows)
