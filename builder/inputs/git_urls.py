"""URLs of git repositories in a script. Their logins are for git's environment, not its arguments.

uv and git pass a repository's URL as an argument, which every user of the machine can read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.wheelhouse.runtime.text import without_logins

_REQUIREMENT = re.compile(r"git\+([a-z][a-z0-9+.-]*://[^\s#;]+)", re.IGNORECASE)
_URL = re.compile("[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def repository_urls(script: Script) -> list[str]:
    """Return the URLs of git repositories that a script names, with their logins."""
    return list(_urls([script.dependencies, script.settings]))


def without_git_logins(value: Any) -> Any:  # noqa: ANN401 - requirements, or a TOML table
    """Return *value* without the logins of git repositories."""
    if isinstance(value, dict):
        cleaned = {key: without_git_logins(item) for key, item in value.items()}
        if _is_repository(value.get("git")):
            cleaned["git"] = without_logins(value["git"])
        return cleaned
    if isinstance(value, list | tuple):
        return [without_git_logins(item) for item in value]
    is_requirement = isinstance(value, str) and _REQUIREMENT.search(value)
    return without_logins(value) if is_requirement else value


def _urls(value: Any) -> Iterator[str]:  # noqa: ANN401 - any TOML value
    if isinstance(value, dict):
        if _is_repository(value.get("git")):
            yield value["git"]
        value = value.values()
    elif isinstance(value, str):
        for match in _REQUIREMENT.finditer(value):
            yield _without_revision(match[1])
        return
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        yield from _urls(item)


def _is_repository(value: object) -> bool:
    return isinstance(value, str) and _URL.match(value) is not None


def _without_revision(url: str) -> str:
    """Return a requirement's URL without `@REVISION` at the end of its path."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    path = path.rpartition("@")[0] or path
    return f"{scheme}://{authority}{slash}{path}"
