"""A script's requirements and settings, to compare with those of bundled scripts."""

import importlib
import sys

from ..errors import InputError, NotInBundleError
from ..python.pep723 import block_digest, settings_digest
from ..python.requirements import canonical_requirement, canonical_specifiers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Optional

    from ..bundle.manifest import BundledScript, Manifest
    from .request import Request


class ScriptMetadata:
    """What decides a lock: a script's requirements, and the digest of its [tool.uv] settings."""

    def __init__(
        self, dependencies: "Sequence[str]", requires_python: "Optional[str]", settings: str
    ) -> None:
        self.dependencies = {canonical_requirement(text): text for text in dependencies}
        self.requires_python = requires_python
        self.settings = settings

    @classmethod
    def of_bundled(cls, script: "BundledScript") -> "ScriptMetadata":
        """Return the metadata of a script of the bundle."""
        return cls(script.dependencies, script.requires_python, script.settings)

    def equals(self, other: "ScriptMetadata") -> bool:
        """Return whether the two differ in spelling only."""
        return (
            self.settings == other.settings
            and set(self.dependencies) == set(other.dependencies)
            and canonical_specifiers(self.requires_python or "")
            == canonical_specifiers(other.requires_python or "")
        )

    def is_covered_by(self, other: "ScriptMetadata") -> bool:
        """Return whether a lock for *other* has all that this needs, except the interpreter."""
        return self.settings == other.settings and set(self.dependencies) <= set(other.dependencies)


def read_metadata(request: "Request", manifest: "Manifest") -> ScriptMetadata:
    """Return the script's metadata: from the manifest for a known block, else from its TOML."""
    digest = block_digest(request.block)
    for script in manifest.scripts.values():
        if script.block == digest:
            return ScriptMetadata.of_bundled(script)
    table = _parse_toml(request)
    dependencies = table.get("dependencies", [])
    requires_python = table.get("requires-python")
    is_list = isinstance(dependencies, list)
    if not is_list or not all(isinstance(item, str) for item in dependencies):
        hint = 'write it like dependencies = ["numpy", "matplotlib>=3"]'
        message = f"{request.script}: `dependencies` is not a list of texts (PEP 723)"
        raise InputError(message, hint=hint)
    if not isinstance(requires_python, (str, type(None))):
        hint = 'write it like requires-python = ">=3.10"'
        raise InputError(f"{request.script}: `requires-python` is not a text (PEP 723)", hint=hint)
    tool = table.get("tool", {})
    uv = tool.get("uv", {}) if isinstance(tool, dict) else {}
    return ScriptMetadata(dependencies, requires_python, settings_digest(uv))


def _parse_toml(request: "Request") -> "dict[str, Any]":
    """Parse the block with tomllib (Python 3.11), tomli, or pip's copy of tomli."""
    for name in ("tomllib", "tomli", "pip._vendor.tomli"):
        try:
            toml = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return toml.loads(request.block)  # type: ignore[no-any-return]
        except ValueError as error:
            raise InputError(
                f"{request.script}: the metadata block is not TOML: {error}",
                hint="the lines between `# /// script` and `# ///` are TOML, each behind `# `",
            ) from None
    raise NotInBundleError(
        f"the metadata block of {request.script} differs from every bundled one, and this "
        f"Python {sys.version.split()[0]} cannot read TOML",
        hint="start run.py with Python 3.11 or newer, or keep the block of the bundle's script",
    )
