"""The manifest as the launcher reads it, under the policy of the site."""

import os

from ..errors import IntegrityError, SignatureError
from ..files import sha256_of
from ..names import FORMAT, MANIFEST
from ..policy import trusted_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def check_trust(question: "Callable[[str], Any]", bundle: str) -> "Any":  # noqa: ANN401
    """Ask policy.py; what the site does not trust is no bundle to launch from."""
    try:
        return question(bundle)
    except SignatureError as error:
        message = f"{bundle}: {error.message}"
        raise SignatureError(message, kind=error.kind, hint=error.hint) from None


def read_manifest(bundle: str) -> "dict[str, Any]":
    """Return the manifest, signed as the site's policy asks, and shaped as this file reads it; raises LaunchError."""
    import json

    path = os.path.join(bundle, MANIFEST)
    hint = "the bundle is damaged: carry it over again, or check it with `offline-bundle verify`"
    try:
        content, signers = check_trust(trusted_manifest, bundle)
        manifest = json.loads(content.decode())
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: {error}", hint=hint) from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise IntegrityError(
            f"{path} has format {found!r}; this run.py reads format {FORMAT}",
            hint="use the run.py of that bundle, or build the bundle with a matching offline-bundle",
        )
    manifest.setdefault("uv", {})
    manifest.setdefault("pythons", {})
    manifest["signed-by"] = [signer.fingerprint for signer in signers]
    problems = list(_shape_problems(manifest, _SHAPE))
    problems += [f"{name!r} leaves the bundle" for name in manifest["files"] if not is_inside(name)]
    if problems:
        raise IntegrityError(
            f"{path} is not shaped like a bundle's manifest:\n  " + "\n  ".join(problems), hint=hint
        )
    return manifest  # type: ignore[no-any-return]


def is_inside(name: str) -> bool:
    """Tell whether a path of the manifest stays in the bundle."""
    return (
        not name.startswith("/")
        and ".." not in name.split("/")
        and "\\" not in name
        and ":" not in name
    )


_TEXT_OR_NULL = (str, type(None))


_SHAPE: "dict[str, Any]" = {  # what this launcher reads; "*" stands for every name
    "scripts": {
        "*": {
            "path": str,
            "block": str,
            "dependencies": list,
            "requires-python": _TEXT_OR_NULL,
            "settings": str,
            "locks": {"*": {"lock": str, "libc": _TEXT_OR_NULL, "packages": {"*": {"wheel": str}}}},
        }
    },
    "targets": {"*": {"python": str, "platform": str}},
    "uv": {"*": {"path": str}},
    "pythons": {"*": {"version": str, "path": str}},
    "files": {"*": {"sha256": _TEXT_OR_NULL, "size": (int, type(None))}},
}


def _shape_problems(found: object, shape: "Any", where: str = "") -> "Iterator[str]":  # noqa: ANN401
    """Name every part of the manifest that is missing or of another type than *shape* says."""
    if not isinstance(shape, dict):
        if not isinstance(found, shape):
            yield f"{where} is missing or of a wrong type"
    elif not isinstance(found, dict):
        yield f"{where} is not a table"
    else:
        for name, inner in shape.items():
            for key in found if name == "*" else [name]:
                yield from _shape_problems(found.get(key), inner, f"{where}[{key!r}]")


DAMAGED_HINT = (
    "carry the bundle over again; `offline-bundle verify DIR` lists all that does not match"
)


def read_verified(bundle: str, manifest: "dict[str, Any]", name: str) -> bytes:
    """Return the content of a bundled file that is exactly what the manifest says, or raise LaunchError 5."""
    listed = manifest["files"].get(name)
    if listed is None:
        raise IntegrityError(
            f"{name} is not in the files of {os.path.join(bundle, MANIFEST)}", hint=DAMAGED_HINT
        )
    try:
        with open(os.path.join(bundle, name), "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise IntegrityError(
            f"{os.path.join(bundle, name)} is missing", hint=DAMAGED_HINT
        ) from None
    if len(content) != listed["size"] or sha256_of(content) != listed["sha256"]:
        raise IntegrityError(
            f"{os.path.join(bundle, name)} does not match its digest in {MANIFEST}",
            hint=DAMAGED_HINT,
        )
    return content
