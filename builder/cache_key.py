"""Cache key for CI: computed from all that decides a bundle, without a network.

The same scripts and options give the same key on any machine, in any folder and at any time. What
a script *does* is not part of it: a build into a restored bundle only replaces the changed script.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offline_bundle import __version__
from offline_bundle.builder.headers.headers import Headers
from offline_bundle.builder.headers.model import HeaderRequest
from offline_bundle.builder.included_data import read_included
from offline_bundle.builder.inputs.node_file import read_node
from offline_bundle.builder.inputs.script_targets import pair_up
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.search import find_scripts
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.builder.resolve.uv_lockfile import Locking, has_uv_lock, uv_lock_path
from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
from offline_bundle.wheelhouse.runtime.disk.files import file_digest, sha256_of
from offline_bundle.wheelhouse.runtime.names import FORMAT
from offline_bundle.wheelhouse.runtime.python.pep723 import settings_digest
from offline_bundle.wheelhouse.runtime.python.requirements import canonical_requirement
from offline_bundle.wheelhouse.runtime.text import without_logins
from offline_bundle.wheelhouse.store.shipped import bundle_files

# Parameters of `build` that do not change its result; targets are in the key by name.
_NOT_IN_KEY = {
    "scripts",
    "output",
    "python_versions",
    "platforms",
    "nodes",
    "include",
    "is_locked",
    "is_check",
    "sign",
    "as_json",
    "quiet",
    "verbose",
    "annotations",
    "sarif",
    "strict_imports",
}


def cache_key(scripts: Sequence[Path], parameters: Mapping[str, Any]) -> str:
    """Return the key (64 hex digits) of the bundle that `build` would make.

    *parameters* have the names of its command; a file counts by its content. Raises InputError (2)
    or ResolveError (3) as the build would.
    """
    header = HeaderRequest(
        parameters.get("requirements", ()),
        parameters.get("project"),
        parameters.get("groups", ()),
        parameters.get("pylock"),
    )
    # uv needs a network to compare uv.lock with its project: the file itself is in the key
    headers = Headers(header, Locking(find_uv(), ResolveOptions()), with_project_lock=False)
    read = headers.read(find_scripts(scripts).scripts)
    data = read_included(parameters.get("include", ()))
    document = {
        "format": FORMAT,
        "offline-bundle": __version__,
        "launcher": _launcher(parameters),
        "uv": uv_version_here(),
        "scripts": sorted((_script(script) for script in read), key=json.dumps),
        "targets": _targets(read, parameters),
        "project-lock": sha256_of(lock.read_bytes()) if (lock := header.project_lock) else None,
        "variables": {
            name: os.environ[name]
            for name in uv_settings.DECIDING_VARIABLES
            if os.environ.get(name)
        },
        "data": {path: file_digest(file) for path, file in sorted(data.files.items())},
        "options": {
            name: _portable(value)
            for name, value in sorted(parameters.items())
            if name not in _NOT_IN_KEY and value
        },
    }
    return sha256_of(json.dumps(document, sort_keys=True).encode())


def _launcher(parameters: Mapping[str, Any]) -> dict[str, str]:
    files = bundle_files(
        with_cache="cache" in parameters.get("formats", ()),
        with_pythons=bool(parameters.get("with_python")),
    )
    return {name: sha256_of(content) for name, content in files.items()}


def _targets(scripts: Sequence[Script], parameters: Mapping[str, Any]) -> list[str]:
    pairs = pair_up(
        scripts,
        parameters["python_versions"],
        parameters["platforms"],
        [read_node(path) for path in parameters["nodes"]],
        bundle_python=bool(parameters.get("with_python")),
    )
    return sorted({f"{script.name}/{target.name}" for script, target in pairs})


def _script(script: Script) -> dict[str, Any]:
    lock = uv_lock_path(script)
    indexes = {_portable(url) for _, url in uv_settings.index_locations(script)}
    return {
        "name": script.name,
        "dependencies": sorted(map(canonical_requirement, script.dependencies)),
        "requires-python": script.requires_python,
        "settings": settings_digest(script.settings),
        "indexes": sorted(indexes),
        "configuration": settings_digest(uv_settings.deciding_settings(script)),
        "lock": sha256_of(lock.read_bytes()) if has_uv_lock(script) else None,
    }


def _portable(value: Any) -> Any:  # noqa: ANN401 - any option's value
    """Return *value* without what differs between machines: passwords, and parent folders."""
    if isinstance(value, tuple):
        return [_portable(entry) for entry in value]
    if isinstance(value, Path):
        return sha256_of(value.read_bytes()) if value.is_file() else value.name
    if isinstance(value, str) and "://" in value:
        name, url = uv_settings.split_index(value)
        return f"{name or ''}={without_logins(url)}"
    if isinstance(value, str) and re.match(r"[/\\~]|[A-Za-z]:\\", value):
        return Path(value).name
    return value
