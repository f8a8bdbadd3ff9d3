"""JSON without duplicate keys and constants."""

from .errors import IntegrityError
from .names import COPY_AGAIN_HINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def parse_object(content: bytes, name: str) -> "dict[str, Any]":
    """Parse a JSON object; raises Refusal for anything else, and where a key occurs twice."""
    import json

    try:
        document = json.loads(
            content.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise IntegrityError(f"{name} is nested too deeply", hint=COPY_AGAIN_HINT) from None
    except ValueError as error:
        raise IntegrityError(f"{name} is not valid JSON: {error}", hint=COPY_AGAIN_HINT) from None
    if not isinstance(document, dict):
        raise IntegrityError(f"{name} must be a JSON object", hint=COPY_AGAIN_HINT)
    return document


def _object(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return document


def _refuse_constant(name: str) -> "NoReturn":
    raise ValueError(f"{name} is no number")
