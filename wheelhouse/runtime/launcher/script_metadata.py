"""A script's requirements and settings, compared with those of bundled scripts."""

import sys

from ..errors import InputError, NotInBundleError
from ..pep723 import block_digest, settings_digest
from ..processes import tool_variables
from ..requirements import canonical_requirement, canonical_specifiers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Optional

    from ..interpreters import Interpreters
    from .request import Request


class ScriptMetadata:
    """What decides about the lock: a script's requirements, and its [tool.uv] settings by digest."""

    def __init__(
        self, dependencies: "Sequence[str]", requires_python: "Optional[str]", settings: str
    ) -> None:
        self.dependencies = {canonical_requirement(text): text for text in dependencies}
        self.requires_python = requires_python
        self.settings = settings

    def is_same_as(self, other: "ScriptMetadata") -> bool:
        """Tell whether nothing changed but the spelling."""
        python = canonical_specifiers(self.requires_python or "") == canonical_specifiers(
            other.requires_python or ""
        )
        return (
            python
            and self.settings == other.settings
            and set(self.dependencies) == set(other.dependencies)
        )

    def needs_no_more_than(self, other: "ScriptMetadata") -> bool:
        """Tell whether a lock made for *other* has all this needs; the interpreter is checked separately."""
        return self.settings == other.settings and set(self.dependencies) <= set(other.dependencies)


def bundled_metadata(entry: "dict[str, Any]") -> ScriptMetadata:
    return ScriptMetadata(entry["dependencies"], entry["requires-python"], entry["settings"])


def read_metadata(
    request: "Request", manifest: "dict[str, Any]", interpreters: "Interpreters"
) -> ScriptMetadata:
    """Return the script's metadata: from the manifest where a block is the same, else by reading the TOML."""
    digest = block_digest(request.block)
    for entry in manifest["scripts"].values():
        if entry["block"] == digest:
            return bundled_metadata(entry)
    table = _parse_toml(request, interpreters)
    dependencies = table.get("dependencies", [])
    requires_python = table.get("requires-python")
    if not isinstance(dependencies, list) or not all(
        isinstance(item, str) for item in dependencies
    ):
        hint = 'write it like dependencies = ["numpy", "matplotlib>=3"]'
        raise InputError(
            f"{request.script}: `dependencies` is not a list of texts (PEP 723)", hint=hint
        )
    if not isinstance(requires_python, (str, type(None))):
        hint = 'write it like requires-python = ">=3.10"'
        raise InputError(f"{request.script}: `requires-python` is not a text (PEP 723)", hint=hint)
    tool = table.get("tool", {})
    uv = tool.get("uv", {}) if isinstance(tool, dict) else {}
    return ScriptMetadata(dependencies, requires_python, settings_digest(uv))


_TOML_HINT = "the lines between `# /// script` and `# ///` are TOML, each behind `# `"


def _parse_toml(request: "Request", interpreters: "Interpreters") -> "dict[str, Any]":
    """Read the block with tomllib (Python 3.11), tomli, pip's copy of tomli, or another interpreter."""
    import importlib

    for name in ("tomllib", "tomli", "pip._vendor.tomli"):
        try:
            toml = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return toml.loads(request.block)  # type: ignore[no-any-return]
        except ValueError as error:
            raise InputError(
                f"{request.script}: the metadata block is not TOML: {error}", hint=_TOML_HINT
            ) from None
    for minor in range(20, 10, -1):
        for interpreter in interpreters.of_minor((3, minor)):
            return _parse_toml_elsewhere(request, interpreter.path)
    raise NotInBundleError(
        f"the metadata block of {request.script} differs from every bundled one, and reading it needs "
        f"Python 3.11 or newer; this is {sys.version.split()[0]}, and there is no newer one",
        hint="start run.py with Python 3.11 or newer, or keep the block as it is in the bundle's script",
    )


_TOML_TO_JSON = """
import json, sys, tomllib
try:
    table = tomllib.loads(sys.stdin.buffer.read().decode())
except ValueError as error:
    sys.exit(str(error))
print(json.dumps(table, default=lambda moment: moment.isoformat()))
"""


def _parse_toml_elsewhere(request: "Request", python: str) -> "dict[str, Any]":
    import json
    import subprocess

    done = subprocess.run(
        [python, "-I", "-c", _TOML_TO_JSON],
        input=request.block.encode(),
        capture_output=True,
        env=tool_variables(),
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise InputError(
            f"{request.script}: the metadata block is not TOML: {reason}", hint=_TOML_HINT
        )
    return json.loads(done.stdout)  # type: ignore[no-any-return]
