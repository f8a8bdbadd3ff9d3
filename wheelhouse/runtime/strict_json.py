"""JSON from outside, read strictly: no duplicate keys, no constants, every type checked.

problems = Problems()
table = JsonTable(parse_object(content, "bundle.json"), (), problems)
version = table.text("version")    # or "", and `problems` has one more
"""

import json

from .disk.files import is_digest
from .disk.paths import unsafe_path
from .errors import MOST_PROBLEMS, IntegrityError
from .names import COPY_AGAIN_HINT, LARGEST_SIZE
from .text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterator
    from typing import Any, NoReturn, Optional, Union

    from .errors import BundleError

_PLAIN_KEY_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-[]"
)


def parse_object(
    content: "Union[bytes, str]",
    name: str,
    *,
    error_type: "type[BundleError]" = IntegrityError,
    hint: str = COPY_AGAIN_HINT,
) -> "dict[str, Any]":
    """Parse the JSON object in *content*, UTF-8.

    Raises *error_type* for anything else, and where a key occurs twice in one object.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_reject_constant)
    except RecursionError:
        raise error_type(f"{name} is nested too deeply", hint=hint) from None
    except ValueError as error:  # JSON, UTF-8, integers of thousands of digits
        raise error_type(f"{name} is not valid JSON: {error}", hint=hint) from None
    if not isinstance(document, dict):
        raise error_type(f"{name} must be a JSON object, not {shown_value(document)}", hint=hint)
    return document


def _unique_keys(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    document = dict(pairs)
    if len(document) != len(pairs):  # readers differ on which of two equal keys counts
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shown(key)} occurs twice in one object")
            seen.add(key)
    return document


def _reject_constant(name: str) -> "NoReturn":
    raise ValueError(f"{name} is not JSON")


def _is_encodable(value: str) -> bool:
    """Return whether UTF-8 can encode *value*: JSON can have half a character."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def shown_value(value: object) -> str:
    """Return a value from outside as text for a message: short, without control characters."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > LARGEST_SIZE:
        return "a huge number"
    return json.dumps(value)


class Problems:
    """The problems of one document: the first few as text, the others counted."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._omitted = 0

    def add(self, keys: "tuple[str, ...]", problem: str) -> None:
        """Add a *problem* of the value at *keys*, which are shown as in TOML."""
        if len(self._first) == MOST_PROBLEMS:
            self._omitted += 1
            return
        dotted = ".".join(
            key if _PLAIN_KEY_CHARACTERS.issuperset(key) and 0 < len(key) <= 120 else shown(key)
            for key in keys
        )
        self._first.append(f"{dotted}: {problem}")

    def raise_if_any(
        self, message: str, hint: str, error_type: "type[BundleError]" = IntegrityError
    ) -> None:
        """Raise one error with all problems."""
        if self._first:
            more = [f"and {self._omitted} more"] if self._omitted else []
            raise error_type(message, hint=hint, problems=[*self._first, *more])


class JsonTable:
    """A JSON object that is being checked.

    Each method returns the value of a key; for one of another type it adds a problem and returns an
    empty value, so that reading goes on and all problems are reported together.
    """

    def __init__(self, value: object, keys: "tuple[str, ...]", problems: Problems) -> None:
        self._keys = keys
        self._problems = problems
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            problems.add(keys, f"must be an object, not {shown_value(value)}")

    def has(self, key: str) -> bool:
        """Return whether *key* has a value other than null."""
        return self._values.get(key) is not None

    def text(
        self, key: str, pattern: "Optional[re.Pattern[str]]" = None, kind: str = "text"
    ) -> str:
        """Return a text, which must match *pattern* if there is one; *kind* describes it."""
        value = self._values.get(key)
        if isinstance(value, str) and (pattern is None or pattern.fullmatch(value)):
            if _is_encodable(value):
                return value
            kind = f"{kind} that UTF-8 can encode"
        self._report(key, kind)
        return ""

    def optional_text(self, key: str) -> "Optional[str]":
        """Return a text, or None where it is missing or null."""
        return self.text(key) if self.has(key) else None

    def digest(self, key: str) -> str:
        """Return a sha256 digest."""
        value = self._values.get(key)
        if is_digest(value):
            return str(value)
        self._report(key, "a sha256 of 64 lower-case hex digits")
        return ""

    def integer(self, key: str, *, least: int, kind: str) -> int:
        """Return an integer of *least* or more; *kind* describes it."""
        value = self._values.get(key)
        if type(value) is int and least <= value <= LARGEST_SIZE:  # True is an int, but not here
            return value
        self._report(key, kind)
        return least

    def texts(self, key: str) -> "tuple[str, ...]":
        """Return a list of texts."""
        value = self._values.get(key)
        if isinstance(value, list) and all(
            isinstance(item, str) and _is_encodable(item) for item in value
        ):
            return tuple(value)
        self._report(key, "a list of texts")
        return ()

    def digests(self, key: str) -> "tuple[str, ...]":
        """Return a list of sha256 digests."""
        texts = self.texts(key)
        if all(map(is_digest, texts)):
            return texts
        self._report(key, "a list of sha256 digests")
        return ()

    def flag(self, key: str, *, required: bool = False) -> bool:
        """Return a boolean; unless *required*, false where it is missing or null."""
        value = self._values.get(key)
        if not isinstance(value, bool) and (required or value is not None):
            self._report(key, "true or false")
        return value is True

    def table(self, key: str) -> "JsonTable":
        """Return the object at *key*."""
        return JsonTable(self._values.get(key), (*self._keys, key), self._problems)

    def tables(self, *, named: bool) -> "Iterator[tuple[str, JsonTable]]":
        """Yield each member, an object; with *named* its key must be usable as a file name."""
        for key, value in self._values.items():
            keys = (*self._keys, key)
            if named and ("/" in key or unsafe_path(key)):
                self._problems.add(keys, "is not usable as a file name")
            table = JsonTable(value, keys, self._problems)
            if isinstance(value, dict):
                yield key, table

    def entries(self, key: str) -> "Iterator[JsonTable]":
        """Yield each entry of a list of objects."""
        value = self._values.get(key)
        if not isinstance(value, list):
            self._report(key, "a list")
            return
        for index, entry in enumerate(value):
            table = JsonTable(entry, (*self._keys, f"{key}[{index}]"), self._problems)
            if isinstance(entry, dict):
                yield table

    def _report(self, key: str, kind: str) -> None:
        value = f"not {shown_value(self._values[key])}" if key in self._values else "but is missing"
        self._problems.add((*self._keys, key), f"must be {kind}, {value}")
