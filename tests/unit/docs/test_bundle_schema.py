"""The published JSON Schema and the manifest reader accept the same documents."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.disk.paths import unsafe_path
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from tests.support.bundles import make_bundle
from tests.support.manifest_cases import whole_manifest
from tests.support.reviewed import LINUX, WINDOWS, Shelf
from tests.support.schema import manifest_validator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALIDATOR = manifest_validator()
SCHEMA = VALIDATOR.schema
BEYOND = re.compile(
    r"is not in targets|is not of Python|collides with|is a file, not a folder"
    r"|'([^']+)' is not in files"
)
"""What only the reader can refuse: docs/reference/bundle-format.md lists it."""
WRONG = [
    None,
    True,
    0,
    1,
    -1,
    2**63,
    1.5,
    "",
    "text",
    "../x",
    "ab" * 32,
    "AB" * 32,
    "2026-01-01T00:00:00Z",
    [],
    [1],
    {},
]


def places(value: object, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value of a document."""
    if where:
        yield where
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from places(item, (*where, key))


def changed(document: dict[str, Any], where: tuple[Any, ...]) -> tuple[dict[str, Any], Any]:
    """Copy the document; return the copy and its container of the value at *where*."""
    whole = copy.deepcopy(document)
    container: Any = whole
    for key in where[:-1]:
        container = container[key]
    return whole, container


def reader_problems(document: object) -> list[str]:
    """Return the reader's problems, without those that a schema cannot express."""
    try:
        Manifest.from_json(json.dumps(document))
    except IntegrityError as error:
        return [line for line in error.problems or (error.message,) if not is_beyond_schemas(line)]
    return []


def is_beyond_schemas(problem: str) -> bool:
    """True for a reference to a missing file; False if it could never be a file's path."""
    match = BEYOND.search(problem)
    return bool(match and not (match[1] and unsafe_path(match[1])))


def full_document() -> dict[str, Any]:
    """Return a manifest with every key of the format."""
    document: dict[str, Any] = json.loads(whole_manifest().to_json())
    document |= {"generation": 3, "ancestors": ["ab" * 32]}
    document["scripts"]["eval"]["origins"] = ["cd" * 32]
    document["scripts"]["eval"]["data"] = ["model"]
    document["files"]["data/model"] = {"sha256": "ab" * 32, "size": 1}
    [lock] = document["scripts"]["eval"]["locks"].values()
    lock |= {"cache": "0.13.9", "environment": "envs/eval", "image": "images/eval.squashfs"}
    document["files"]["images/eval.squashfs"] = {"sha256": "ab" * 32, "size": 1}
    document["files"]["envs/eval/pyvenv.cfg"] = {
        "sha256": "ab" * 32,
        "size": 1,
        "executable": False,
    }
    path = "python/20260211/cpython-3.12.12.tar.gz"
    document["pythons"] = {
        name: {"version": "3.12.12", "implementation": "cpython", "path": path}
        for name in document["targets"]
    }
    document["files"][path] = {"sha256": "ab" * 32, "size": 1}
    wheel_path = next(path for path in document["files"] if path.endswith(".whl"))
    document["files"][f"{wheel_path}.provenance"] = {"sha256": "ab" * 32, "size": 1}
    wheel = document["files"][wheel_path]
    wheel["publisher"] = {"kind": "GitHub", "name": "example/project", "workflow": "a.yml"}
    wheel["source"] |= {"path": "a.whl", "git": "https://git.test/a", "commit": "0" * 40}
    return document


def named_properties(schema: dict[str, Any]) -> Iterator[str]:
    for definition in [schema, *schema["$defs"].values()]:
        yield from definition.get("properties", {})


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_schema_has_exactly_the_keys_that_are_written() -> None:
    document = full_document()
    keys = {where[-1] for where in places(document) if isinstance(where[-1], str)}
    names = {
        name
        for table in ("scripts", "targets", "uv", "pythons", "files")
        for name in document[table]
    }
    names |= {"numpy", *document["scripts"]["eval"]["locks"]}
    assert keys - names == set(named_properties(SCHEMA)) - {"SHA256SUMS"}


def test_schema_accepts_manifests_of_bundles(tmp_path: Path) -> None:
    shelf = Shelf()
    wheel = shelf.wheel("numpy", yanked="", requires_python=">=3.9")
    manifest = shelf.write(
        tmp_path / "a", shelf.manifest({"eval": {LINUX: [wheel], WINDOWS: [wheel]}}, uv=["x86_64"])
    )
    written = make_bundle(tmp_path / "b") / "bundle.json"
    for content in (manifest.to_json(), written.read_bytes(), json.dumps(full_document())):
        VALIDATOR.validate(json.loads(content))


def test_schema_and_reader_refuse_the_same_values() -> None:
    """Each value of a full manifest is removed, and replaced by each of many others."""
    document = full_document()
    differing = []
    for where in places(document):
        variants = []
        for value in WRONG:
            whole, container = changed(document, where)
            container[where[-1]] = value
            variants.append((value, whole))
        whole, container = changed(document, where)
        del container[where[-1]]
        variants.append(("(absent)", whole))
        differing += [
            (where, value)
            for value, whole in variants
            if VALIDATOR.is_valid(whole) != (not reader_problems(whole))
        ]
    assert differing == []


_LETTERS = st.characters(codec="ascii") | st.sampled_from("é-ß日 .:/\\")


@given(
    st.text(_LETTERS, max_size=12)
    | st.sampled_from([".writer", "bundle.json", "a/bundle.json", "bundle.json.sig"])
)
@example(".Writer/x")
@example("BUNDLE.json")
@example("nul.txt")
@example("a/Com1")
@example("con sole")
@example("a//b")
@example("a/../b")
@example("a./b")
@example("x" * 1025)
def test_paths_are_safe_for_schema_and_reader_alike(path: str) -> None:
    # Python's $ also matches before a last line end; that of ECMA 262 (JSON Schema) does not.
    if "\n" in path:
        return
    schema = {"$ref": "#/$defs/path", "$defs": SCHEMA["$defs"]}
    assert Draft202012Validator(schema).is_valid(path) == (unsafe_path(path) is None)


@pytest.mark.parametrize("key", ["scripts", "targets", "uv", "pythons"])
@pytest.mark.parametrize(
    "name", ["a/b", "", ".", "..", "a:b", ".writer", "bundle.json", "a ", "fine-1.0"]
)
def test_names_are_valid_for_schema_and_reader_alike(key: str, name: str) -> None:
    document = full_document()
    document[key][name] = next(iter(document[key].values()))
    assert VALIDATOR.is_valid(document) == (not reader_problems(document))
