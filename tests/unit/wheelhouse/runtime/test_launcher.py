"""The launcher with real bundles, interpreters, uv and processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.launcher.warm_start import plain_block
from offline_bundle.wheelhouse.runtime.python import platforms
from offline_bundle.wheelhouse.runtime.python.pep723 import (
    block_digest,
    read_block,
    settings_digest,
)
from offline_bundle.wheelhouse.runtime.python.platforms import parse_platform
from offline_bundle.wheelhouse.runtime.python.requirements import (
    canonical_requirement,
    python_matches,
)
from tests.support.characters import CHARACTERS

if TYPE_CHECKING:
    from pathlib import Path


REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)*)^# ///$")


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("# /// script\n# dependencies = []\n# ///\n", "dependencies = []\n"),
        ("\ufeff# /// script\r\n# a = 1\r\n#\r\n# ///\r\n", "a = 1\n\n"),
        ("# /// script\n# a = 1\n# ///", "a = 1\n"),
        ("# /// script\n# ///\n", ""),
        ("import x\n# /// other\n# /// script\n# ///\n", None),
        ("# /// other\n# a = 1\n# ///\n# /// script\n# b = 2\n# ///\n", None),
        ("# /// other\n# a = 1\n# ///\n\n# /// script\n# b = 2\n# ///\n", "b = 2\n"),
        ('"""\n# /// script\n# a = 1\n# ///\n"""\n', "a = 1\n"),
        ("# /// script\n# a = '''\n# ///\n# '''\n# ///\n", "a = '''\n///\n'''\n"),
        ("# /// script\n# a = 1\n# ///\nprint('''\n# /// script\n''')\n", "a = 1\n"),
        ("print('# /// script')\n", None),
        (" # /// script\n # a\n # ///\n", None),
        ("# ///  script\n# a\n# ///\n", None),
        ("", None),
    ],
)
def test_a_block_is_read_as_the_reference_does(text: str, block: str | None) -> None:
    assert read_block(text) == block
    plain = text.lstrip("\ufeff").replace("\r\n", "\n")
    matches = [match for match in REFERENCE.finditer(plain) if match["type"] == "script"]
    assert len(matches) == (block is not None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import x\n# /// script\n# a = 1\nprint()\n", 2),
        ("# /// script\n# a = 1\n#///\n", 1),
        ("# /// script\n#a = 1\n# ///\n", 1),
        ("# /// script\n", 1),
        ("# /// script\n# a = 1\n\n# /// script\n# b = 1\n# ///\n", 1),
        ("# /// script\n# a\n# ///\n\n# /// script\n# b\n# ///\n", 5),
        ("# /// script\n# a\n# ///\n# /// script\n# b\n# ///\n", 1),
    ],
)
def test_blocks_that_the_reference_would_overlook_are_errors(text: str, line: int) -> None:
    with pytest.raises(BundleError, match=f"line {line}:") as caught:
        read_block(text)
    assert caught.value.exit_code == 2


@given(
    st.lists(
        st.sampled_from(["# /// script", "# /// other", "# ///", "# a = 1", "#", "#b", "", "x"]),
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_a_block_that_is_read_is_the_one_of_the_reference(lines: list[str]) -> None:
    text = "\n".join(lines)
    matches = [match for match in REFERENCE.finditer(text) if match["type"] == "script"]
    try:
        block = read_block(text)
    except BundleError:
        return
    assert len(matches) == (block is not None)
    if matches:
        content = matches[0]["content"].splitlines(keepends=True)
        assert block == "".join(line[2:] if line.startswith("# ") else line[1:] for line in content)


@given(
    st.lists(
        st.sampled_from(
            ["# /// script", "# /// other", "# /// ", "# ///", "# a = 1", "#", "#b", "", "x", "\r"]
        ),
        max_size=12,
    ),
    st.sampled_from(["", "\ufeff", "\n"]),
)
@example(["# /// other", "# /// script", "# a = 1", "# ///"], "")
@settings(max_examples=300, deadline=None)
def test_a_warm_start_reads_the_block_of_a_cold_one(lines: list[str], start: str) -> None:
    text = start + "\n".join(lines)
    block = plain_block(text)
    if block is not None:
        assert block == read_block(text)


def test_digests_do_not_depend_on_spelling() -> None:
    import datetime as dt

    assert block_digest("a\r\nb\n") == block_digest("a\nb\n") != block_digest("a\nc\n")
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert settings_digest({"b": 1, "a": moment}) == settings_digest(
        {"a": moment.isoformat(), "b": 1}
    )
    assert settings_digest({}) != settings_digest({"a": 1})


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        (["numpy>=2,<3", "NumPy <3, >=2", "numpy (>=2,<3)", " numpy>=2 , <3 "], "numpy<3,>=2"),
        (["ruamel.yaml[Jinja2, b_c]", "Ruamel_Yaml[b-c,jinja2]"], "ruamel-yaml[b-c,jinja2]"),
        (
            [
                "a>1; python_version<'3.12' and (extra == \"b\")",
                "A >1 ;python_version  <  \"3.12\" and(extra=='b')",
            ],
            'a>1; python_version < "3.12" and ( extra == "b" )',
        ),
        (
            [
                "a @ https://host.invalid/a-1.0.whl#sha256=AB",
                "A@https://host.invalid/a-1.0.whl#sha256=AB",
            ],
            None,
        ),
        (
            ["a @ file:///x y/a;b.whl ; sys_platform=='linux'"],
            'a @ file:///x y/a;b.whl ; sys_platform == "linux"',
        ),
    ],
)
def test_requirements_have_one_spelling(spellings: list[str], canonical: str | None) -> None:
    found = {canonical_requirement(spelling) for spelling in spellings}
    assert found == {canonical or "a @ https://host.invalid/a-1.0.whl#sha256=AB"}


NAMES = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,5}[A-Za-z0-9])?\Z", alphabet=CHARACTERS)


CLAUSES = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from([">=", "<", "!=", " == ", "~= "]),
    st.sampled_from(["1.0", "2.3.4", "10.1rc1"]),
)


MARKERS = st.sampled_from(
    ["", "; python_version < '3.12'", " ;sys_platform==\"linux\" or extra=='x y'"]
)


@given(NAMES, st.lists(NAMES, max_size=3), st.lists(CLAUSES, max_size=3), MARKERS)
@settings(max_examples=100, deadline=None)
def test_packaging_agrees_on_equal_requirements(
    name: str, extras: list[str], clauses: list[str], marker: str
) -> None:
    text = name + (f"[{' , '.join(extras)}]" if extras else "") + " , ".join(clauses) + marker
    try:
        other = str(Requirement(text))
    except InvalidRequirement:
        return
    assert canonical_requirement(text) == canonical_requirement(other)
    assert canonical_requirement(canonical_requirement(text)) == canonical_requirement(text)


RELEASES = st.lists(st.integers(0, 14), min_size=1, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)


OPERATORS = st.sampled_from(["==", "!=", "<=", ">=", "<", ">", "~=", "==="])


SUFFIXES = st.sampled_from(
    ["", "", "", ".*", "rc1", "a0", ".dev0", ".post1", "b2", ".r3", "-1", "rev", "preview.2", "_c",
     "a1.post2", "rc1.dev0", ".post1.dev2", "+local.1", "a1+x", ".post-3", "alpha", "dev"]
)  # fmt: skip


EPOCHS = st.sampled_from(["", "", "", "0!", "1!", "v", "v0!"])


VERSIONS = st.tuples(st.integers(2, 4), st.integers(0, 14), st.integers(0, 14))


@given(
    st.lists(st.tuples(OPERATORS, EPOCHS, RELEASES, SUFFIXES).map("".join), min_size=1, max_size=3),
    VERSIONS,
)
@settings(max_examples=500, deadline=None)
def test_versions_are_compared_as_packaging_does(
    clauses: list[str], version: tuple[int, int, int]
) -> None:
    text = ", ".join(clauses)
    if any(re.fullmatch(r"==v?(?:\d+!)?\d+\.\d+", clause) for clause in clauses):
        return  # the one deviation
    try:
        expected = SpecifierSet(text).contains(
            Version("{}.{}.{}".format(*version)), prereleases=True
        )
    except ValueError:
        return
    assert python_matches(text, version) == expected


def test_two_components_mean_any_patch_release() -> None:
    assert python_matches("==3.12", (3, 12, 7))
    assert python_matches(" == 3.12 , != 3.12.3", (3, 12, 7))
    assert not python_matches("==3.12", (3, 11, 0))
    assert not python_matches("==3.12.0", (3, 12, 7))
    assert python_matches(None, (3, 12, 7))
    assert python_matches("", (3, 12, 7))


@pytest.mark.parametrize(
    "text",
    [
        "3.12",
        "=>3.12",
        ">=3.x",
        "~=3",
        ">=3.*",
        ">= ",
        ">=3.12+local",
        "~=3.1.*",
        "==3.\u0663",
        ">=3." + "9" * 5000,
        "==2.7,==v0a-0.*",
    ],
)
def test_invalid_specifier_is_an_error(text: str) -> None:
    with pytest.raises(BundleError) as caught:
        python_matches(text, (3, 12, 1))
    assert caught.value.exit_code == 2


def test_platform_names_are_read_as_uv_writes_them() -> None:
    assert parse_platform("x86_64-manylinux_2_28") == ("Linux", "x86_64", "glibc", (2, 28))
    assert parse_platform("aarch64-manylinux2014") == ("Linux", "aarch64", "glibc", (2, 17))
    assert parse_platform("x86_64-unknown-linux-gnu") == parse_platform("linux")
    assert parse_platform("x86_64-unknown-linux-musl")[:3] == ("Linux", "x86_64", "musl")
    assert parse_platform("aarch64-apple-darwin") == parse_platform("macos")
    assert parse_platform("x86_64-pc-windows-msvc") == parse_platform("windows")
    assert platforms.Node().misfit("wasm32-pyodide2024") is not None


def test_a_lock_is_shared_or_exclusive(tmp_path: Path) -> None:
    readers = [FileLock(tmp_path / "lock", shared=True) for _ in range(2)]
    writer = FileLock(str(tmp_path / "lock"))
    assert all(reader.acquire(block=False) for reader in readers)
    assert not writer.acquire(block=False)
    for reader in readers:
        reader.release()
        reader.release()
    with writer:
        assert not readers[0].acquire(block=False)
        with pytest.raises(RuntimeError):
            writer.acquire()
    assert readers[0].acquire()
    readers[0].release()
