"""The word list of `make lint`: each rule finds its words, and no run passes unchecked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_words
from tools.check_words import FILES, FOLDERS, RULES, Rule, checked_files, find_words, main

PAGE = Path("docs/page.md")


def words_in(text: str) -> list[str]:
    return [finding.word.lower() for finding in find_words(text, PAGE)]


@pytest.mark.parametrize("rule", RULES, ids=[rule.example for rule in RULES])
def test_each_rule_finds_its_example(rule: Rule) -> None:
    findings = list(find_words(rule.example, PAGE))
    assert rule.instead in {finding.instead for finding in findings}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def tell_user(name):", ["tell"]),
        ("_brought = 1", ["brought"]),
        ("SEAL = 1", ["seal"]),
        ("Somebody Said", ["somebody", "said"]),
        ("x is no size", ["is no"]),
        ("ship: bool, waits: bool", ["waits"]),
    ],
)
def test_names_and_prose_are_both_searched(text: str, expected: list[str]) -> None:
    assert sorted(words_in(text)) == sorted(expected)


@pytest.mark.parametrize(
    "text",
    [
        "families applies relies",
        "understand standard stand-alone standalone",
        "bystander folder folders unfoldable",
        "there is no file",
        "it is no longer used",
        "installed",
        "intelligent hello",
        "courses hours web owed",
        "user nobody",
        "the job waits",
        "refused",
    ],
)
def test_other_words_are_not_found(text: str) -> None:
    assert words_in(text) == []


def test_an_allowed_line_is_skipped_and_only_that_line() -> None:
    assert words_in("seal  # words: allow\nseal") == ["seal"]


def test_the_line_after_an_allowing_comment_is_skipped() -> None:
    assert words_in("<!-- words: allow -->\nseal\nseal") == ["seal"]


def test_a_file_is_skipped_only_by_its_head() -> None:
    assert words_in("<!-- words: allow file -->\nseal") == []
    assert words_in("\n" * 10 + "<!-- words: allow file -->\nseal") == ["seal"]


def test_every_room_and_page_is_checked() -> None:
    paths = checked_files()
    assert {str(path) for path in paths if len(path.parts) == 1} == set(FILES)
    assert {path.parts[0] for path in paths if len(path.parts) > 1} == set(FOLDERS)
    for name in ("builder", "runner", "wheelhouse", "docs"):
        assert len([path for path in paths if path.parts[0] == name]) > 10


def test_a_checkout_without_files_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_words, "ROOT", tmp_path)
    monkeypatch.setattr(check_words, "checked_files", lambda: checked_files(tmp_path))
    assert main([]) == 2
    assert "no files to check" in capsys.readouterr().err


def test_a_named_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_words, "ROOT", tmp_path)
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("fine\nbrought\n")
    assert main([str(page)]) == 1
    assert capsys.readouterr().out.startswith("docs/page.md:2: 'brought': write instead: fetch")
    page.write_text("fine\n")
    assert main([str(page)]) == 0


def test_files_of_other_kinds_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_words, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text("brought")
    assert main([str(tmp_path / "tests" / "test_it.py")]) == 0
