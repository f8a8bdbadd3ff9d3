"""Gather the pages of the documentation into one folder, which `mkdocs` then builds: `make docs`.

What lies in docs/ is copied. Three kinds of page are made here, from what they describe, so that they cannot differ
from it: the command reference (from the commands themselves), a page for each example, and its files as a ZIP.

mkdocs sees plain Markdown only. No plugin and no hook of its own is used beyond search and offline, so that another
generator can take over: Material for MkDocs ends in May 2027, and its successor Zensical reads the same mkdocs.yml.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from offline_bundle import cli  # noqa: E402 - found by the line before, also where nothing is installed

if TYPE_CHECKING:
    from collections.abc import Iterator

_COPIED = (".md", ".svg", ".json", ".js")
_EXAMPLE_LINK = re.compile(r"\]\(\.\./examples/([a-z0-9_]+)/[^)]*\)")
"""A link to an example's file, as it works in the clone; in the site each example has a page."""
_LANGUAGES = {".py": "python", ".csv": "text", ".toml": "toml", ".md": "markdown"}
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_WIDTH = 100


def gather(place: Path) -> None:
    """Write every page, picture and file of the site to *place*, anew."""
    shutil.rmtree(place, ignore_errors=True)
    for source in sorted((ROOT / "docs").rglob("*")):
        if source.suffix in _COPIED:
            target = place / source.relative_to(ROOT / "docs")
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".md":
                text = source.read_text(encoding="utf-8")
                target.write_text(_EXAMPLE_LINK.sub(r"](examples/\1.md)", text), encoding="utf-8")
            else:
                shutil.copyfile(source, target)
    (place / "commands.md").write_text(commands_page(), encoding="utf-8")
    examples = place / "examples"
    examples.mkdir()
    for folder in example_folders():
        (examples / f"{folder.name}.md").write_text(example_page(folder), encoding="utf-8")
        write_zip(folder, examples / f"{folder.name}.zip")


def commands_page() -> str:
    """Render the reference of every command and option."""
    context = click.Context(cli, info_name="offline-bundle")
    lines = ["# Commands", "", cli.help or "", "", "| command | |", "|---|---|"]
    commands = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    found = [(name, command) for name, command in commands if command is not None]
    lines += [f"| [{name}](#{name}) | {_cell(command.get_short_help_str(limit=_WIDTH))} |" for name, command in found]
    for name, command in found:
        lines += ["", f"## {name}", "", *_command(command, click.Context(command, context, info_name=name))]
    return "\n".join([*lines, ""])


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from ("```text", f"{context.command_path} {pieces}", "```", "", *_paragraphs(command.help or ""))
    yield from ("", "| option | |", "|---|---|")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            yield f"| `{_cell(record[0])}` | {_cell(record[1])} |"


def _paragraphs(text: str) -> list[str]:
    r"""Split a command's help as click does: a line with \b alone keeps the next lines as they are."""
    found: list[str] = []
    for paragraph in text.split("\n\n"):
        is_kept = paragraph.startswith("\b")
        body = paragraph.removeprefix("\b\n")
        found += ["```text", body, "```", ""] if is_kept else [body, ""]
    return found


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def example_folders() -> list[Path]:
    """Every folder of examples/ that says what it is."""
    return sorted(path.parent for path in (ROOT / "examples").glob("*/README.md"))


def example_files(folder: Path) -> list[Path]:
    """The files of an example, sorted; what running it leaves behind is none of them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in files if path.suffix in _LANGUAGES and "__pycache__" not in path.parts)


def example_page(folder: Path) -> str:
    """Render its README, then each of its files."""
    lines = [(folder / "README.md").read_text(encoding="utf-8").rstrip(), ""]
    lines += [f"All of it: [{folder.name}.zip]({folder.name}.zip)"]
    for path in example_files(folder):
        if path.name != "README.md":
            name = path.relative_to(folder).as_posix()
            text = path.read_text(encoding="utf-8").rstrip()
            lines += ["", f"## {name}", "", f"````{_LANGUAGES[path.suffix]}", text, "````"]
    return "\n".join([*lines, ""])


def write_zip(folder: Path, place: Path) -> None:
    """Pack an example; the same files give the same bytes."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in example_files(folder):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", _ZIP_TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    gather(ROOT / "build" / "docs")
