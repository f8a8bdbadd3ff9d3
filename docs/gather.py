"""Gather the pages of the documentation into one folder for mkdocs: `make docs`.

Tracked pages of docs/ are copied. Four kinds of page are generated from what they describe, so
that they cannot differ from it: the command reference, the changelog, a page for each example,
and the example's files as a ZIP. mkdocs reads plain Markdown only (docs/adr/0026).
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from offline_bundle.cli import cli  # noqa: E402 - found by the line before, also where nothing is installed

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS_MARKER = "<!-- commands -->"
"""In reference/commands.md, the text from here on is replaced by the commands."""
_COPIED = (".md", ".svg", ".json", ".js")
_EXAMPLE_LINK = re.compile(r"\]\(((?:\.\./)*)\.\./examples/([a-z0-9_]+)/[^)]*\)")
"""A link to a file of an example in the checkout. In the site each example has a page."""
_STANDALONE_LINK = re.compile(r"\]\(((?:\.\./)*)\.\./runner/standalone/([a-z_]+\.py)\)")
"""A link to a file that is copied to nodes alone. The site has a copy of the file."""
_LANGUAGES = {".py": "python", ".csv": "text", ".toml": "toml", ".md": "markdown"}
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_NO_LIMIT = sys.maxsize


def gather(target: Path) -> None:
    """Write every page, picture and file of the site to *target*, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    for source in tracked_files(ROOT / "docs"):
        if source.suffix in _COPIED:
            copy_file(source, target / source.relative_to(ROOT / "docs"))
    for page in target.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        text = _EXAMPLE_LINK.sub(r"](\1examples/\2.md)", text)
        page.write_text(_STANDALONE_LINK.sub(r"](\1standalone/\2)", text), encoding="utf-8")
    for source in tracked_files(ROOT / "runner" / "standalone"):
        if source.name != "__init__.py":
            copy_file(source, target / "standalone" / source.name)
    _insert_commands(target / "reference" / "commands.md")
    (target / "changelog.md").write_text(changelog_page(), encoding="utf-8")
    _write_examples(target / "examples")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file and make the folders of its target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def tracked_files(folder: Path) -> list[Path]:
    """List the files of *folder* that git tracks, sorted. Outside a checkout, list all files."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", str(folder)]
    names: list[str] = []
    if (
        ROOT / ".git"
    ).exists():  # else an enclosing repository, which tracks nothing here, would answer
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\0"
        )
    paths = [ROOT / name for name in names if name] or list(folder.rglob("*"))
    return sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


def _insert_commands(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(text.partition(COMMANDS_MARKER)[0] + commands_reference(), encoding="utf-8")


def commands_reference() -> str:
    """Render every command and option as Markdown."""
    context = click.Context(cli, info_name="offline-bundle", **cli.context_settings)
    commands = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    shown = [
        (name, command) for name, command in commands if command is not None and not command.hidden
    ]
    lines = ["| command | description |", "|---|---|"]
    lines += [
        f"| [{name}](#{name}) | {_cell(command.get_short_help_str(_NO_LIMIT))} |"
        for name, command in shown
    ]
    for name, command in shown:
        lines += [
            "",
            f"## {name}",
            "",
            *_command(command, click.Context(command, context, info_name=name)),
        ]
    return "\n".join(lines)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (
        "```text",
        f"{context.command_path} {pieces}",
        "```",
        "",
        *_paragraphs(command.help or ""),
    )
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    yield from ("| option | description |", "|---|---|", *rows) if rows else ()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            nested = command.get_command(context, name)
            if nested is not None and not nested.hidden:
                yield from ("", f"### {context.info_name} {name}", "")
                yield from _command(nested, click.Context(nested, context, info_name=name))


def _row(parameter: click.Parameter, context: click.Context) -> str | None:
    """Render an option. Arguments without a description are in the usage line already."""
    record = parameter.get_help_record(context)
    return f"| `{_code(record[0])}` | {_cell(record[1])} |" if record and record[1] else None


def _paragraphs(text: str) -> list[str]:
    r"""Render help as click does: a paragraph after a line with only \b is preformatted."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        first, _, others = paragraph.partition("\n")
        is_preformatted = first.strip() == "\b"
        lines += (
            ["```text", inspect.cleandoc(others), "```", ""] if is_preformatted else [paragraph, ""]
        )
    return lines


def _cell(text: str) -> str:
    """Escape the text of a table's cell, but not what is in backticks: code is shown as it is."""
    parts = _code(text).split("`")
    return "`".join(
        part.replace("<", "&lt;") if number % 2 == 0 else part for number, part in enumerate(parts)
    )


def _code(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def changelog_page() -> str:
    """Return CHANGELOG.md and the fragments of changes/, with links relative to the site's top."""
    lines = []
    for path in tracked_files(ROOT / "changes"):
        _, _, kind = path.name.removesuffix(".md").partition(".")
        if kind and path.suffix == ".md":
            lines.append(
                f"- {kind.capitalize()}: {' '.join(path.read_text(encoding='utf-8').split())}"
            )
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if lines:
        start, heading, releases = text.partition("\n## ")
        text = "\n".join([start, "## Unreleased", "", *sorted(lines), heading]) + releases
    return text.replace("](docs/", "](")


def _write_examples(target: Path) -> None:
    target.mkdir()
    for folder in example_folders():
        (target / f"{folder.name}.md").write_text(example_page(folder), encoding="utf-8")
        write_zip(folder, target / f"{folder.name}.zip")


def example_folders() -> list[Path]:
    """List the folders of examples/ that have a tracked README."""
    examples = ROOT / "examples"
    return [
        path.parent
        for path in tracked_files(examples)
        if path.name == "README.md" and path.parent.parent == examples
    ]


def example_files(folder: Path) -> list[Path]:
    """List the files of an example, sorted, without the files that running it leaves behind."""
    return [path for path in tracked_files(folder) if path.suffix in _LANGUAGES]


def example_page(folder: Path) -> str:
    """Render the example's README, then each of its files."""
    lines = [(folder / "README.md").read_text(encoding="utf-8").rstrip(), ""]
    lines += [f"Download all files: [{folder.name}.zip]({folder.name}.zip)"]
    for path in example_files(folder):
        if path.name != "README.md":
            name = path.relative_to(folder).as_posix()
            text = path.read_text(encoding="utf-8").rstrip()
            lines += ["", f"## {name}", "", f"````{_LANGUAGES[path.suffix]}", text, "````"]
    return "\n".join([*lines, ""])


def write_zip(folder: Path, target: Path) -> None:
    """Pack an example. The same files give the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in example_files(folder):
            entry = zipfile.ZipInfo(
                f"{folder.name}/{path.relative_to(folder).as_posix()}", _ZIP_TIME
            )
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    gather(ROOT / "build" / "docs")
