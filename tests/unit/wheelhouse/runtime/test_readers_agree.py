"""Fuzzed at length: the launcher reads headers as the builder, `packaging` and PEP 723 do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from offline_bundle.builder.inputs.scripts import parse_script
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.launcher.warm_start import plain_block
from offline_bundle.wheelhouse.runtime.python.pep723 import read_block
from offline_bundle.wheelhouse.runtime.python.requirements import (
    canonical_requirement,
    python_matches,
)

pytestmark = pytest.mark.slow

# https://peps.python.org/pep-0723/#reference-implementation, with empty blocks as in uv and pipx
REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)*)^# ///$")
LINES = st.sampled_from(
    [
        "# /// script", "# /// script ", "#/// script", "# /// other", "# /// a-1", "# /// ", "# ///",
        "# dependencies = []", '# requires-python = ">=3.9"', "# [tool.uv]", "#", "# ", "#b", "#\t",
        "", " ", "x = 1", "'''", "# \u2028", "# \x0c", "#\xa0/// script",
    ]
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r"])
TEXTS = st.tuples(
    st.sampled_from(["", "\ufeff"]), st.lists(st.tuples(LINES, ENDS), max_size=14)
).map(lambda parts: parts[0] + "".join(line + end for line, end in parts[1]))
VERSIONS = st.from_regex(
    r"\A(v|)([01]!|)[0-9]{1,2}(\.[0-9]{1,2}){0,3}([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?[0-9]?|)"
    r"(-[0-9]|[-_.]?(post|rev|r)[-_.]?[0-9]?|)([-_.]?dev[-_.]?[0-9]?|)(\+[a-z0-9]{1,3}(\.[0-9])?|\.\*|)\Z"
)
OPERATORS = st.sampled_from(["==", "!=", "<=", ">=", "<", ">", "~=", "===", "=", ""])
CLAUSES = st.tuples(OPERATORS, VERSIONS).map("".join)
PYTHONS = st.tuples(st.integers(2, 4), st.integers(0, 14), st.integers(0, 14))
NAMES = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,4}[A-Za-z0-9])?\Z")
MARKERS = st.sampled_from(
    ["", "; python_version<'3.12'", " ;sys_platform==\"linux\" or extra=='x y'"]
)
SPACES = st.sampled_from(["", " ", "  "])


@given(TEXTS)
@settings(max_examples=1_500, deadline=None)
def test_blocks(text: str) -> None:
    plain = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    matches = [match for match in REFERENCE.finditer(plain) if match["type"] == "script"]
    try:
        block = read_block(text)
    except InputError:
        block = None
        matches = []  # what the reference would silently skip
    assert len(matches) == (block is not None)
    if matches:
        lines = matches[0]["content"].splitlines(keepends=True)
        expected = re.sub("(?m)^# ?", "", matches[0]["content"])
        assert block == expected, lines
    warm = plain_block(text)
    assert warm is None or warm == block
    try:
        script = parse_script(Path("job.py"), text.encode())
    except BundleError:
        return
    assert script.block == block


@given(st.lists(CLAUSES, min_size=1, max_size=3), PYTHONS)
@settings(max_examples=1_500, deadline=None)
def test_versions(clauses: list[str], version: tuple[int, int, int]) -> None:
    if any(re.fullmatch(r"==v?([01]!)?[0-9]+\.[0-9]+", clause) for clause in clauses):
        return  # the one deviation: any patch release of this minor
    text = ",".join(clauses)
    try:
        specifiers = SpecifierSet(text)
    except InvalidSpecifier:
        with pytest.raises(InputError):
            python_matches(text, version)
        return
    release = Version("{}.{}.{}".format(*version))
    assert python_matches(text, version) == specifiers.contains(release, prereleases=True)


@given(NAMES, st.lists(NAMES, max_size=2), st.lists(CLAUSES, max_size=2), MARKERS, SPACES)
@settings(max_examples=1_500, deadline=None)
def test_requirements(
    name: str, extras: list[str], clauses: list[str], marker: str, space: str
) -> None:
    brackets = f"[{f'{space},'.join(extras)}]" if extras else ""
    text = f"{name}{space}{brackets}{space}{f'{space},'.join(clauses)}{marker}"
    canonical = canonical_requirement(text)
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return
    assert canonical_requirement(canonical) == canonical
    if len(clauses) < 2:  # of two spellings of one version, packaging drops one
        assert canonical_requirement(str(requirement)) == canonical
    assert Requirement(canonical) == requirement
