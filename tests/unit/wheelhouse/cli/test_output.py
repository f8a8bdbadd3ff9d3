"""Text output: tables on a terminal and in a pipe, sizes, untrusted text."""

from __future__ import annotations

import pytest

from offline_bundle.runner.cli.submit import submit_command
from offline_bundle.wheelhouse.cli.kit.output import print_table
from offline_bundle.wheelhouse.cli.pack import pack_command
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.launcher.prepare.cache_cleanup import cache_limit
from offline_bundle.wheelhouse.runtime.sizes import count, format_size, parse_size
from offline_bundle.wheelhouse.runtime.text import printable_lines
from tests.support.output_cases import ROWS, TITLES


def test_table_in_a_pipe_has_one_plain_line_per_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TITLES, ROWS, numbers={"size"})
    assert capsys.readouterr().out.splitlines() == [
        "package  size  state  in",
        "alpha       1  done   " + "a " * 60 + "end",
        "[bold]b  1000  lost",
    ]


def test_empty_table_has_its_titles(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (40 * 1024**2, "40 MiB"),
        (4 * 1024**3, "4 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_format_size_uses_powers_of_1024(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("104857600", 104857600),
        ("4G", 4 * 1024**3),
        ("4GB", 4 * 1024**3),
        ("4 GiB", 4 * 1024**3),
        ("1.5k", 1536),
        (" 700m ", 700 * 1024**2),
        ("2T", 2 * 1024**4),
    ],
)
def test_parse_size_means_the_same_with_every_suffix(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "4E", "1,5G", "big", "4 4", "9" * 5000, "1e9"])
def test_parse_size_rejects_other_text(text: str) -> None:
    with pytest.raises(InputError, match="invalid size"):
        parse_size(text)


def test_size_options_of_all_commands_use_one_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE_MAX", "4G")
    assert cache_limit() == parse_size("4G")
    for command, option in ((pack_command, "split_size"), (submit_command, "memory")):
        kinds = {parameter.name: parameter.type for parameter in command.params}
        assert kinds[option].convert("4G", None, None) == parse_size("4G")


def test_count_adds_the_plural() -> None:
    assert (count(1, "file"), count(1234, "file")) == ("1 file", "1,234 files")


def test_printable_lines_escapes_controls_and_keeps_line_breaks() -> None:
    assert printable_lines("a\x1b[31m\u202eb\nc\x9b") == "a\\x1b[31m\\u202eb\nc\\x9b"
