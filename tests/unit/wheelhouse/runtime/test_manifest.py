from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    Manifest,
    read_manifest,
    render_checksums,
)
from offline_bundle.wheelhouse.runtime.disk.files import NotRegularError, open_regular
from offline_bundle.wheelhouse.runtime.disk.paths import unsafe_path
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError
from tests.support.characters import CHARACTERS

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.manifest_cases import DIGEST, LOCK, TARGET, WHEEL, whole_manifest


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(whole_manifest().to_json())
    return loaded


def problems_of(content: bytes | str | dict[str, Any]) -> str:
    with pytest.raises(IntegrityError) as caught:
        Manifest.from_json(json.dumps(content) if isinstance(content, dict) else content)
    assert caught.value.hint
    return str(caught.value)


def with_file(path: str, **changes: object) -> dict[str, Any]:
    changed = document()
    changed["files"][path] = {"sha256": DIGEST, "size": 0, **changes}
    return changed


def test_a_manifest_survives_the_round_trip_byte_for_byte() -> None:
    content = whole_manifest().to_json()
    assert Manifest.from_json(content) == whole_manifest()
    assert Manifest.from_json(content.decode()).to_json() == content


def test_the_order_of_construction_does_not_show_in_the_bytes() -> None:
    manifest = whole_manifest()
    backwards = replace(manifest, files=dict(reversed(list(manifest.files.items()))))
    assert backwards.to_json() == manifest.to_json()


def test_the_text_is_sorted_ascii_with_a_line_for_a_file_and_absent_keys_left_out() -> None:
    manifest = Manifest(
        created_by="ü",
        timestamp="2026-01-01T00:00:00Z",
        files={"a": BundledFile(sha256=DIGEST, size=3)},
    )
    assert manifest.to_json().decode().splitlines() == [
        "{",
        ' "created-by": "\\u00fc",',
        ' "files": {',
        f'  "a": {{"sha256":"{DIGEST}","size":3}}',
        " },",
        ' "format": 1,',
        ' "scripts": {},',
        ' "targets": {},',
        ' "timestamp": "2026-01-01T00:00:00Z",',
        ' "uv": {}',
        "}",
    ]
    assert manifest.to_json().endswith(b"}\n")


def test_every_key_of_the_schema_is_written() -> None:
    written = document()
    assert written["format"] == 1
    assert written["scripts"]["eval"]["requires-python"] == "==3.12"
    assert written["scripts"]["eval"]["locks"][TARGET]["libc"] == "2.28"
    assert written["files"]["SHA256SUMS"] == {}
    assert set(written["files"][WHEEL]) == {
        "sha256", "size", "name", "version", "requires-python", "upload-time", "yanked", "source",
        "needed-by",
    }  # fmt: skip
    assert written["files"][WHEEL]["source"]["built-from"] == DIGEST


def test_nothing_required_stays_null_for_readers_that_index() -> None:
    manifest = whole_manifest()
    script = replace(manifest.scripts["eval"], requires_python=None)
    written = json.loads(replace(manifest, scripts={"eval": script}).to_json())
    assert written["scripts"]["eval"]["requires-python"] is None


def test_unknown_keys_are_ignored() -> None:
    changed = document()
    changed["later"] = [1, {"x": None}]
    changed["files"][WHEEL]["later"] = {}
    assert Manifest.from_json(json.dumps(changed)) == whole_manifest()


def test_all_problems_are_told_at_once_with_their_places() -> None:
    changed = document()
    changed["timestamp"] = "yesterday"
    changed["files"][WHEEL]["sha256"] = DIGEST.upper()
    del changed["files"][LOCK]["size"]
    changed["scripts"]["eval"]["locks"][TARGET]["packages"]["numpy"]["wheel"] = "wheels/other.whl"
    text = problems_of(changed)
    assert "timestamp: must be a time such as" in text
    assert (
        f"files.'{WHEEL}'.sha256: must be a sha256 of 64 lower-case hex digits, not 'E3B0C4" in text
    )
    assert f"files.'{LOCK}'.size: must be a size in bytes, but is missing" in text
    assert (
        f"scripts.eval.locks.{TARGET}.packages.numpy.wheel: 'wheels/other.whl' is not in files"
        in text
    )


def test_twenty_problems_are_shown_and_the_rest_counted() -> None:
    changed = document()
    changed["files"] |= {f"file{number}": {} for number in range(100)}
    with pytest.raises(IntegrityError) as caught:
        Manifest.from_json(json.dumps(changed))
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 180 more"


@pytest.mark.parametrize("reference", ["path", "lock", "requirements", "wheel", "uv", "target"])
def test_whatever_is_referred_to_must_be_held(reference: str) -> None:
    changed = document()
    lock = changed["scripts"]["eval"]["locks"][TARGET]
    match reference:
        case "path":
            changed["scripts"]["eval"]["path"] = "gone"
        case "lock" | "requirements":
            lock[reference] = "gone"
        case "wheel":
            lock["packages"]["numpy"]["wheel"] = "gone"
        case "uv":
            changed["uv"]["x86_64-manylinux_2_17"]["path"] = "gone"
        case "target":
            changed["targets"] = {}
    assert "is not in " in problems_of(changed)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "//server/share", "..", "../x", "wheels/../../x", "wheels/..", ".",
        "./x", "wheels//x", "wheels/", "wheels/./x", "wheels\\x", "..\\x", "C:/x", "c:x",
        "wheels/x:stream",
        "a\nb", "a\rb", "a\tb", "a\x00b", "a\x1b[31mb", "a\x7fb", "a\x85b", "a\u202eb", "a\u2028b",
        "a\u200bb", "\ud800", "x.", "x ", "dots.../x", ".writer/x", ".writer", ".WRITER/x",
        "bundle.json",
        "nul", "NUL.txt", "wheels/con", "scripts/Aux.py", "com1/x", "lpt9 .x", "a?b", "a|b", "a<b",
        'a"b', "a*b",
        "Bundle.JSON", "bundle.j\u017fon", "bundle.json.sig", "a" * 1025, "a/" * 500_000 + "a",
    ],
)  # fmt: skip
def test_unsafe_paths_are_refused(path: str) -> None:
    assert unsafe_path(path)
    assert "unsafe path" in problems_of(with_file(path))


@pytest.mark.parametrize(
    "path",
    [
        "a", WHEEL, "wheels/torch-2.0+cpu-cp312-none-any.whl", "wheels/x-1!2.0-py3-none-any.whl",
        "scripts/my script.py", ".hidden", "a..b", "...x", "scripts/übung.py", "wheels/bundle.json",
        "x/.writer/y", "-", "~/x", "simple/a.b/index.html", "console", "com",
        "nul-1.0", "x.nul", "a/conin.txt",
    ],
)  # fmt: skip
def test_safe_paths_are_accepted(path: str) -> None:
    assert unsafe_path(path) is None
    assert path in Manifest.from_json(json.dumps(with_file(path))).files


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/README", "a/readme"),
        ("Wheels/a", "wheels/b"),
        ("\u00fcbung", "u\u0308bung"),
        ("stra\u00dfe", "STRASSE"),
        ("wheels/a", "wheels/a/b"),
        ("SHA256SUMS", "sha256sums"),
    ],
)
def test_paths_that_meet_on_some_file_system_are_refused(first: str, second: str) -> None:
    changed = document()
    changed["files"] |= {first: {"sha256": DIGEST, "size": 0}} if first != "SHA256SUMS" else {}
    changed["files"][second] = {"sha256": DIGEST, "size": 0}
    text = problems_of(changed)
    assert "collides with" in text or "is a file, not a folder" in text


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\nb", "c:", "bundle.json", ".writer"])
@pytest.mark.parametrize("table", ["scripts", "targets", "uv"])
def test_names_that_become_folders_are_refused_when_unsafe(table: str, name: str) -> None:
    changed = document()
    changed[table][name] = copy.deepcopy(next(iter(changed[table].values())))
    assert "not usable as a file name" in problems_of(changed)


@pytest.mark.parametrize(
    "digest",
    [
        None,
        1,
        "",
        DIGEST[:-1],
        DIGEST + "0",
        DIGEST.upper(),
        DIGEST[:-1] + "g",
        DIGEST + "\n",
        "\uff10" * 64,
    ],
)
def test_digests_are_exactly_64_lower_case_hex_digits(digest: object) -> None:
    assert "sha256" in problems_of(with_file("x", sha256=digest))


def test_half_a_character_is_not_text() -> None:
    """JSON can have one, and no file or terminal."""
    assert "text that UTF-8 can encode" in problems_of(with_file("x", name="\ud83d"))
    changed = document()
    [script, *_] = changed["scripts"].values()
    script["dependencies"] = ["\udc00"]
    assert "a list of texts" in problems_of(changed)


@pytest.mark.parametrize("size", [None, -1, True, 1.0, "1", 2**63, 10**400, [], {}])
def test_sizes_are_sensible_integers(size: object) -> None:
    assert "size in bytes" in problems_of(with_file("x", size=size))


def test_the_checksums_have_no_digest() -> None:
    assert "rendered from this table" in problems_of(with_file("SHA256SUMS"))


@pytest.mark.parametrize("found", [None, 0, 1.0, True, "1", [], {}, -1])
def test_an_unknown_format_is_refused(found: object) -> None:
    assert "format" in problems_of({**document(), "format": found})


def test_a_later_format_is_told_apart_from_damage() -> None:
    with pytest.raises(IntegrityError, match="format 2") as caught:
        Manifest.from_json(json.dumps({**document(), "format": 2}))
    assert caught.value.hint == "use the offline-bundle that built it, or a newer one"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00", b"null", b"[]", b"1", b'"x"', b"{", b"{} {}",
        b"\xff\xfe{\x00}\x00", b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b'{"format": NaN}',
        b'{"format": Infinity}', b'{"format": 1e999}', b'{"format": ' + b"9" * 5000 + b"}",
        b'{"format": 1' + b"0" * 400 + b"}", b'{"format": 1, "format": 1}',
        b'{"format": 1, "files": {"a": {}, "\\u0061": {}}}',
    ],
)  # fmt: skip
def test_what_is_no_manifest_at_all_is_refused_politely(content: bytes) -> None:
    assert len(problems_of(content)) < 3000


def test_two_equal_keys_are_named() -> None:
    assert "the key 'format' occurs twice" in problems_of(b'{"format": 1, "x": 2, "format": 2}')


def test_hostile_texts_are_shown_harmlessly() -> None:
    text = problems_of(with_file("\x1b[2J\n" + "x" * 10_000, sha256="\x1b]0;owned\x07"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert len(text) < 1000


def _places(value: object, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [place]
    return [
        place,
        *(found for key, member in value.items() for found in _places(member, (*place, key))),
    ]


@pytest.mark.parametrize(
    "wrong", [None, True, 7, -1.5, "\x00", [], [[]], [1], {}, {"x": 1}], ids=repr
)
def test_a_wrong_shape_anywhere_never_ends_in_a_traceback(wrong: object) -> None:
    for place in _places(document()):
        if not place:
            continue
        changed = document()
        table = changed
        for key in place[:-1]:
            table = table[key]
        table[place[-1]] = wrong
        try:
            manifest = Manifest.from_json(json.dumps(changed))
        except IntegrityError:
            continue
        assert Manifest.from_json(manifest.to_json()) == manifest


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(CHARACTERS, max_size=8)
    | st.sampled_from([DIGEST, WHEEL]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(CHARACTERS, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


_TOP = st.sampled_from(["created-by", "timestamp", "scripts", "targets", "uv", "files"])


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        _TOP, _JSON | st.dictionaries(st.text(CHARACTERS, max_size=5), _JSON, max_size=3)
    )
)
def test_any_json_is_read_or_refused(parts: dict[str, Any]) -> None:
    try:
        Manifest.from_json(json.dumps({**document(), **parts}))
    except IntegrityError:
        return


@pytest.mark.parametrize(
    ("entry", "count"), [pytest.param("0", 10**6, marks=pytest.mark.slow), ("{}", 10**4)]
)
def test_a_million_entries_are_refused_with_the_first_few_named(entry: str, count: int) -> None:
    content = (
        '{"format": 1, "files": {'
        + ",".join(f'"f{number}": {entry}' for number in range(count))
        + "}}"
    )
    assert "more" in problems_of(content).splitlines()[-1]


def test_checksums_are_sorted_and_leave_themselves_out() -> None:
    manifest = whole_manifest()
    content = manifest.to_json()
    lines = render_checksums(manifest, content).decode().splitlines()
    assert f"{hashlib.sha256(content).hexdigest()}  bundle.json" in lines
    assert f"{DIGEST}  {WHEEL}" in lines
    assert [line.split("  ", 1)[1] for line in lines] == sorted(
        {*manifest.files, "bundle.json"} - {"SHA256SUMS"}
    )


def test_read_manifest_reads_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes(whole_manifest().to_json())
    assert read_manifest(tmp_path) == whole_manifest()


def test_no_bundle_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no bundle\.json") as caught:
        read_manifest(tmp_path)
    assert caught.value.hint
    with pytest.raises(InputError, match="no folder"):
        read_manifest(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder"):
        read_manifest(tmp_path / "file")


def test_a_manifest_that_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bundle.json")
    with pytest.raises(IntegrityError, match="not a regular file"):
        read_manifest(tmp_path)
    (tmp_path / "bundle.json").unlink()
    (tmp_path / "elsewhere").write_bytes(whole_manifest().to_json())
    (tmp_path / "bundle.json").symlink_to("elsewhere")
    with pytest.raises(IntegrityError, match="not a regular file"):
        read_manifest(tmp_path)
    (tmp_path / "bundle.json").unlink()
    (tmp_path / "bundle.json").mkdir()
    with pytest.raises(IntegrityError, match="not a regular file"):
        read_manifest(tmp_path)


def test_a_manifest_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied") as caught:
        read_manifest(tmp_path)
    assert caught.value.hint == "check its permissions"


def test_open_regular_opens_files_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"x"
    with pytest.raises(NotRegularError):
        open_regular(tmp_path)
    with pytest.raises(NotRegularError):
        open_regular("/dev/null")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def document_with_python(**changes: object) -> dict[str, Any]:
    changed = document()
    path = "python/20260211/cpython-3.12.12+20260211.tar.gz"
    changed["files"][path] = {"sha256": DIGEST, "size": 3}
    python = {"version": "3.12.12", "implementation": "cpython", "path": path}
    changed["pythons"] = {TARGET: {**python, **changes}}
    return changed


def test_interpreters_are_read_and_written() -> None:
    manifest = Manifest.from_json(json.dumps(document_with_python()))
    assert manifest.pythons[TARGET].version == "3.12.12"
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert b"pythons" not in whole_manifest().to_json()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": "3.12"}, "must be a release such as 3.12.1"),
        ({"version": "3.12.1rc1"}, "must be a release such as 3.12.1"),
        ({"version": None}, "must be a release such as 3.12.1"),
        ({"version": "3.13.1"}, "is not of Python '3.12'"),
        ({"implementation": "pypy"}, "must be cpython"),
        ({"path": "python/gone.tar.gz"}, "must be a path such as python/"),
        ({"path": "python/20260211/gone.tar.gz"}, "is not in files"),
        ({"path": "python/../../a.tar.gz"}, "must be a path such as python/"),
        ({"path": WHEEL}, "must be a path such as python/"),
    ],
)
def test_an_interpreter_that_is_not_described_well_is_refused(
    change: dict[str, Any], problem: str
) -> None:
    assert problem in problems_of(document_with_python(**change))


def test_an_interpreter_for_no_target_is_refused() -> None:
    changed = document_with_python()
    changed["pythons"]["cp313-elsewhere"] = changed["pythons"][TARGET]
    assert "pythons.cp313-elsewhere: is not in targets" in problems_of(changed)
