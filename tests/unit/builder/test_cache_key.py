"""`show --key`: the same key for the same inputs, wherever and whenever, and without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.pipeline_cases import HERE

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.cache_key_cases import key, show

HEADER = '# /// script\n# requires-python = ">=3.9"\n# dependencies = ["numpy>=2", "rich"]\n# ///\n'


TARGETS = ("--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28")


def test_what_does_not_decide_a_bundle_does_not_change_its_key(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, body in ((here, ""), (there, "print('another body')\n")):
        folder.mkdir()
        (folder / "eval.py").write_text(
            HEADER.replace(
                '"numpy>=2", "rich"', '"rich",  "NumPy >=2"' if body else '"numpy>=2", "rich"'
            )
            + body
        )
        (folder / "limits.txt").write_text("idna<4\n")
    index = "https://{}index.example/simple"
    options = (*TARGETS, "--constraint", "limits.txt", "--find-links", "{}/wheels", "--index")
    one = key(here, "eval.py", *(text.format(here) for text in options), index.format(""))
    two = key(there, str(there / "eval.py"), *(text.format(there) for text in options), index.format("user:secret@"),
              "--quiet", "--check", "--annotations", "github", "-o", "elsewhere")  # fmt: skip
    assert one == two


def test_settings_and_folders_give_the_key_of_what_they_stand_for(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "eval.py").write_text(HEADER)
    (tmp_path / "studies" / "helper.py").write_text("print()\n")
    targets = {"OFFLINE_BUNDLE_PYTHON_VERSION": "3.12", "OFFLINE_BUNDLE_PYTHON_PLATFORM": "linux"}
    script = str(tmp_path / "studies" / "eval.py")
    assert (
        key(tmp_path, "studies", **targets)
        == key(tmp_path, script, **targets)
        == key(tmp_path, "studies", "--python-version", "3.12", "--python-platform", "linux")
    )
    assert key(tmp_path, "studies", **targets) != key(
        tmp_path, "studies", "--python-version", "3.13"
    )


def test_what_decides_a_bundle_changes_its_key(tmp_path: Path) -> None:
    (tmp_path / "eval.py").write_text(HEADER)
    (tmp_path / "two.py").write_text(HEADER)
    (tmp_path / "limits.txt").write_text("idna<4\n")
    keys = [
        key(tmp_path, "eval.py", *TARGETS),
        key(tmp_path, "two.py", *TARGETS),
        key(tmp_path, "eval.py", "two.py", *TARGETS),
        key(tmp_path, "eval.py", *TARGETS, "--python-platform", "windows"),
        key(tmp_path, "eval.py", *TARGETS, "--no-uv"),
        key(tmp_path, "eval.py", *TARGETS, "--uv-version", "0.7.19"),
        key(tmp_path, "eval.py", *TARGETS, "--exclude-newer", "2026-01-01"),
        key(tmp_path, "eval.py", *TARGETS, "--index", "https://index.example/simple"),
        key(tmp_path, "eval.py", *TARGETS, UV_DEFAULT_INDEX="https://index.example/simple"),
        key(tmp_path, "eval.py", *TARGETS, UV_EXCLUDE_NEWER="2026-01-01"),
        key(tmp_path, "eval.py", *TARGETS, UV_RESOLUTION="lowest"),
        key(tmp_path, "eval.py", *TARGETS, UV_PRERELEASE="allow"),
        key(tmp_path, "eval.py", *TARGETS, UV_NO_BUILD="1"),
        key(tmp_path, "eval.py", *TARGETS, "--constraint", "limits.txt"),
    ]
    (tmp_path / "limits.txt").write_text("idna<3\n")
    keys.append(key(tmp_path, "eval.py", *TARGETS, "--constraint", "limits.txt"))
    (tmp_path / "eval.py.lock").write_text("version = 1\n")
    keys.append(key(tmp_path, "eval.py", *TARGETS))
    (tmp_path / "eval.py").write_text(HEADER.replace("numpy>=2", "numpy>=3"))
    keys.append(key(tmp_path, "eval.py", *TARGETS))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--key", "none.py"),
        ("--key", "no-bundle"),
        ("--key", "eval.py", "--nonsense"),
        ("one", "two"),
        ("--jsno", "one"),
        (),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "eval.py").write_text(HEADER.replace(">=3.9", f"=={HERE}"))
    told = show(tmp_path, *arguments)
    assert (told.code, told.out) == (2, "")
    assert "Traceback" not in told.err
