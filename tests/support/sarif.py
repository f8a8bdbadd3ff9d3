"""The standard's own schema of SARIF 2.1.0, out of an npm package of its authors."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

_PACKAGE = "@microsoft/jest-sarif@1.0.0-beta.0"
_MEMBER = "package/lib/schemas/sarif-2.1.0-rtm.5.json"


def sarif_validator() -> Any:  # noqa: ANN401 - jsonschema's class depends on the schema
    """Return the validator; fetches the package, so the test needs the marker `registry`."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which brings the schema of SARIF, is not on this machine")
    schema = _schema()
    return jsonschema.validators.validator_for(schema)(schema)


@functools.cache
def _schema() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = {**os.environ, "npm_config_cache": str(folder / "npm")}
        command = ["npm", "pack", "--silent", "--pack-destination", name, _PACKAGE]
        subprocess.run(command, check=True, capture_output=True, env=variables)
        content = next(folder.glob("*.tgz")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        member = package.extractfile(_MEMBER)
        assert member
        schema: dict[str, Any] = json.load(member)
        return schema
