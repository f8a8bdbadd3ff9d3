"""The published JSON Schema of `bundle.json`."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from jsonschema import Draft202012Validator

_PLACE = Path(__file__).parents[2] / "docs" / "bundle-1.schema.json"


@functools.cache
def manifest_validator() -> Draft202012Validator:
    """Compiled once."""
    return Draft202012Validator(json.loads(_PLACE.read_text(encoding="utf-8")))


def is_valid_manifest(content: bytes) -> bool:
    """Whether *content* is a manifest by the schema."""
    return bool(manifest_validator().is_valid(json.loads(content)))
