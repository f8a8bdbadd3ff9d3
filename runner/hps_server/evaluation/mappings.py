"""Parameter mappings: a value after a key in a text file, `thickness(1) = 0.5`. Pure text.

A mapping has a key and a tokenizer. The value is what follows both: a quoted text, or all up to the
next blank, comma, semicolon or end of line. In an input file it is replaced before the task runs;
in an output file it is read afterwards. What HPS can do besides is refused by name when the mapping
is created, see `unsupported`. The rules for the end of a value are a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_UNSUPPORTED = (
    "line",
    "column",
    "float_field",
    "width",
    "precision",
    "digit_grouping_symbol",
    "task_definition_property",
)


class MappingError(Exception):
    """A file that does not have the value of a mapping."""


def unsupported(mapping: Mapping[str, Any]) -> list[str]:
    """Return what of *mapping* is not supported: names of fields; or what it does not have."""
    names = [name for name in _UNSUPPORTED if mapping.get(name) is not None]
    if mapping.get("decimal_symbol") not in {None, "."}:
        names.append("decimal_symbol")
    required = ("key_string", "tokenizer", "parameter_definition_id", "file_id")
    return names + [f"no {name}" for name in required if not mapping.get(name)]


def fill(text: str, mapping: Mapping[str, Any], value: Any) -> str:  # noqa: ANN401 - a job's value
    """Return *text* with *value* in the place of the mapping. Raises MappingError."""
    found = _find(text, mapping)
    start, end = found.span("value")
    return text[:start] + _written(mapping, value) + text[end:]


def read(text: str, mapping: Mapping[str, Any], kind: str | None) -> Any:  # noqa: ANN401
    """Return the value of the mapping in *text*, of type *kind*; the last one if there are several.

    Raises MappingError.
    """
    word = _find(text, mapping, is_last=True)["value"]
    quote = mapping.get("string_quote")
    if quote and len(word) > 1 and word[0] == word[-1] == quote:
        word = word[1:-1]
    try:
        if kind == "float":
            return float(word)
        if kind == "int":
            return int(word)
        if kind == "bool":
            return _truths(mapping)[word]
    except (ValueError, KeyError):
        raise MappingError(f"{mapping['key_string']!r}: invalid {kind}: {word!r}") from None
    return word


def _find(text: str, mapping: Mapping[str, Any], *, is_last: bool = False) -> re.Match[str]:
    key, tokenizer = str(mapping["key_string"]), str(mapping["tokenizer"])
    quote = mapping.get("string_quote")
    quoted = f"{re.escape(quote)}[^\n]*?{re.escape(quote)}|" if quote else ""
    gap = rf"[ \t]*{re.escape(tokenizer.strip())}[ \t]*" if tokenizer.strip() else r"[ \t]+"
    # a key is a whole word: `size` is not found in `mesh_size`
    pattern = rf"(?<![\w.]){re.escape(key.strip())}{gap}(?P<value>{quoted}[^\s,;]*)"
    matches = list(re.finditer(pattern, text))
    if not matches:
        raise MappingError(f"{key!r} followed by {tokenizer!r} is not in the file")
    return matches[-1 if is_last else 0]


def _written(mapping: Mapping[str, Any], value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return next(text for text, truth in _truths(mapping).items() if truth is value)
    quote = (mapping.get("string_quote") or "") if isinstance(value, str) else ""
    return f"{quote}{value}{quote}"


def _truths(mapping: Mapping[str, Any]) -> dict[str, bool]:
    return {
        mapping.get("true_string") or "True": True,
        mapping.get("false_string") or "False": False,
    }
