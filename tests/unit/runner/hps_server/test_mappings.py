"""Values in text files: written into inputs, read from outputs."""

from __future__ import annotations

from typing import Any

import pytest

from offline_bundle.runner.hps_server.evaluation.mappings import (
    MappingError,
    fill,
    read,
    unsupported,
)

DECK = """\
mesh_size = 9
size = 1.0, 2.0  ! the element
name = 'old one' ! quoted
radius(1)=12.0
on = True
"""


def mapping(key: str, tokenizer: str = "=", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"key_string": key, "tokenizer": tokenizer, **more}


@pytest.mark.parametrize(
    ("key", "value", "line", "more"),
    [
        ("size", 0.25, "size = 0.25, 2.0  ! the element", {}),
        ("name", "new", "name = 'new' ! quoted", {"string_quote": "'"}),
        ("radius(1)", 3, "radius(1)=3", {}),
        ("on", False, "on = .F.", {"true_string": ".T.", "false_string": ".F."}),
    ],
)
def test_a_value_is_replaced_and_nothing_else(
    key: str, value: object, line: str, more: dict[str, str]
) -> None:
    before, after = DECK.splitlines(), fill(DECK, mapping(key, **more), value).splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [line]


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("size", "float", 1.0),
        ("mesh_size", "int", 9),
        ("on", "bool", True),
        ("on", "string", "True"),
    ],
)
def test_a_value_is_read_by_its_type(key: str, kind: str, value: object) -> None:
    assert read(DECK, mapping(key), kind) == value


def test_of_several_values_the_last_one_is_read() -> None:
    text = "CP Time      (sec) =   1.5\nCP Time      (sec) =   2.5 s\n"
    assert read(text, mapping("CP Time      (sec)"), "float") == 2.5
    assert read("residual  3e-5\n", mapping("residual", " "), "float") == 3e-5
    assert read(DECK, mapping("name", string_quote="'"), "string") == "old one"


@pytest.mark.parametrize(
    ("key", "kind", "said"),
    [
        ("depth", "float", "'depth' followed by '=' is not in the file"),
        ("name", "float", "'name': invalid float: \"'old\""),
        ("size", "bool", "'size': invalid bool: '1.0'"),
    ],
)
def test_what_is_missing_or_invalid_is_named(key: str, kind: str, said: str) -> None:
    with pytest.raises(MappingError) as raised:
        read(DECK, mapping(key), kind)
    assert str(raised.value) == said


def test_what_would_be_ignored_is_named() -> None:
    whole = mapping("size", parameter_definition_id="1", file_id="2")
    assert unsupported(whole) == []
    assert unsupported(whole | {"decimal_symbol": ".", "line": None}) == []
    assert unsupported(whole | {"line": 3, "decimal_symbol": ","}) == ["line", "decimal_symbol"]
    assert unsupported(
        {"task_definition_property": "name", "key_string": "n", "tokenizer": "="}
    ) == [
        "task_definition_property",
        "no parameter_definition_id",
        "no file_id",
    ]
