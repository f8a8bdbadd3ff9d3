"""Choose the lock of the bundle that fits the script and this node."""

import os
import sys

from ..errors import BundleError, NotInBundleError
from ..files import sha256_of
from ..names import MANIFEST
from ..pep723 import block_digest
from ..platforms import parse_platform, version_numbers
from ..requirements import python_matches
from .bundled_python import bundled_interpreter
from .script_metadata import bundled_metadata
from .trusted_manifest import is_inside
from .warm_start import node_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional

    from ..interpreters import Interpreter, Interpreters
    from ..platforms import Node
    from .bundled_python import bundled_interpreter
    from .request import Request
from .script_metadata import ScriptMetadata


class Plan:
    """What is going to be prepared: one lock of the bundle, with one interpreter of this node."""

    def __init__(
        self,
        manifest: "dict[str, Any]",
        target: str,
        lock: "dict[str, Any]",
        node: "Node",
        interpreter: "Interpreter",
    ) -> None:
        self.manifest = manifest
        self.target = target
        self.lock = lock
        self.node = node
        self.interpreter = interpreter
        self.ready: "Optional[str]" = None
        """Folder of the environment that the bundle has for it, to be used in place."""

    def key(self) -> str:
        """Name of the environment's folder: the same for the same lock, kind of node and interpreter."""
        digest = self.manifest["files"].get(self.lock["lock"], {}).get("sha256")
        parts = [
            str(digest),
            self.target,
            *node_identity(),
            self.interpreter.path,
            *self.manifest["signed-by"],
        ]
        parts += [self.ready] if self.ready else []
        return sha256_of(os.fsencode("\n".join(parts)))[:32]


def bundled_scripts(
    request: "Request", manifest: "dict[str, Any]", metadata: "ScriptMetadata"
) -> "list[str]":
    """Return the bundled scripts whose lock serves this one, best first, or refuse, naming what they lack.

    Best is the same block, then the same requirements, then more of them; of equals the one of the same name.
    """
    digest = block_digest(request.block)
    ranked = []
    for name, entry in manifest["scripts"].items():
        other = bundled_metadata(entry)
        same_name = os.path.basename(entry["path"]) == request.name
        surplus = len(set(other.dependencies) - set(metadata.dependencies))
        if entry["block"] == digest:
            ranked.append((0, 0, not same_name, name))
        elif metadata.is_same_as(other):
            ranked.append((1, 0, not same_name, name))
        elif metadata.needs_no_more_than(other):
            ranked.append((2, surplus, not same_name, name))
    if not ranked:
        raise _not_in_bundle(request, manifest, metadata)
    return [name for *_, name in sorted(ranked)]


def _not_in_bundle(
    request: "Request", manifest: "dict[str, Any]", metadata: "ScriptMetadata"
) -> BundleError:
    """Compare with the bundled script of the same name, else the most similar one, and say what is new."""
    hint = f"on the connected side: build-offline-bundle {request.name} -o DIR, then carry the bundle over again"
    closest = min(
        manifest["scripts"].values(),
        key=lambda entry: (
            os.path.basename(entry["path"]) != request.name,
            len(set(bundled_metadata(entry).dependencies) ^ set(metadata.dependencies)),
            entry["path"],
        ),
        default=None,
    )
    if closest is None:
        return NotInBundleError(
            f"{request.bundle} holds no scripts, so none of what {request.name} needs", hint=hint
        )
    bundled = bundled_metadata(closest)
    bundled_name = os.path.basename(closest["path"])
    added = [text for key, text in metadata.dependencies.items() if key not in bundled.dependencies]
    if added:
        return NotInBundleError(
            f"{request.name} needs {', '.join(added)}, which the bundle's {bundled_name} did not have",
            hint=hint,
        )
    return NotInBundleError(
        f"the [tool.uv] settings of {request.name} are not those of the bundle's {bundled_name}",
        hint=hint,
    )


def choose_lock(
    request: "Request",
    manifest: "dict[str, Any]",
    scripts: "list[str]",
    metadata: "ScriptMetadata",
    interpreters: "Interpreters",
) -> Plan:
    """Return the first script's best lock that fits: highest manylinux platform first, then newest Python."""
    node = interpreters.node
    misfits = []
    for script in scripts:
        entry = manifest["scripts"][script]
        for target in sorted(
            entry["locks"], key=lambda name: _target_order(manifest, name), reverse=True
        ):
            lock = entry["locks"][target]
            found = _fit(manifest, target, lock, metadata, interpreters)
            if isinstance(found, str):
                misfits.append(f"{target}: {found}")
                continue
            _notice_removed(request, entry, metadata)
            request.say(f"Chosen: {lock['lock']} with {found}", 1)
            plan = Plan(manifest, target, lock, node, found)
            plan.ready = _ready_environment(request.bundle, lock)
            return plan
    here = (
        "name a fitting interpreter with --python PATH, or "
        if any(": no CPython" in why for why in misfits)
        else ""
    )
    raise NotInBundleError(
        f"nothing in the bundle for {request.name} fits this node\n"
        f"  this node: {node}\n"
        f"  its interpreters: {interpreters}\n"
        "  the bundle: " + "; ".join(dict.fromkeys(misfits) or ["no lock at all"]),
        hint=f"{here}on the connected side: build-offline-bundle {request.name} -o DIR --python-version X.Y "
        f"--python-platform {node.platform()}",
    )


def _fit(
    manifest: "dict[str, Any]",
    name: str,
    lock: "dict[str, Any]",
    metadata: "ScriptMetadata",
    interpreters: "Interpreters",
) -> "Interpreter | str":
    """Return the interpreter that serves this lock here, or say why none does."""
    target = manifest["targets"].get(name)
    if target is None:
        return f"not among the targets of {MANIFEST}"
    misfit = interpreters.node.misfit(target["platform"], version_numbers(lock["libc"] or ""))
    if misfit:
        return misfit
    free_threaded = target["python"].endswith("t")
    minor = version_numbers(target["python"].rstrip("t"))[:2]
    for interpreter in _interpreters_for(
        manifest, name, minor, interpreters, free_threaded=free_threaded
    ):
        if python_matches(metadata.requires_python, interpreter.version):
            return interpreter
    required = metadata.requires_python
    return f"no CPython {target['python']}" + (
        f" that satisfies requires-python {required!r}" if required else ""
    )


def _interpreters_for(
    manifest: "dict[str, Any]",
    target: str,
    minor: "tuple[int, ...]",
    interpreters: "Interpreters",
    *,
    free_threaded: bool,
) -> "Iterator[Interpreter]":
    """Yield the interpreter that the bundle has for *target*, then this node's own."""
    if target in manifest["pythons"] and interpreters.cache and not interpreters.explicit:
        yield bundled_interpreter(
            manifest, target, minor, interpreters.cache, free_threaded=free_threaded
        )
    yield from interpreters.of_minor(minor, free_threaded=free_threaded)


def _target_order(manifest: "dict[str, Any]", name: str) -> "tuple[Any, ...]":
    target = manifest["targets"].get(name, {"python": "", "platform": ""})
    return (
        parse_platform(target["platform"])[3],
        version_numbers(target["python"].rstrip("t")),
        name,
    )


def _notice_removed(
    request: "Request", entry: "dict[str, Any]", metadata: "ScriptMetadata"
) -> None:
    bundled = bundled_metadata(entry).dependencies
    removed = [text for key, text in bundled.items() if key not in metadata.dependencies]
    if removed:
        bundled_name = os.path.basename(entry["path"])
        request.say(
            f"{request.name} does not list {', '.join(removed)}; it runs in the environment of {bundled_name}"
        )


def _ready_environment(bundle: str, lock: "dict[str, Any]") -> "Optional[str]":
    """Return the folder of the environment that the bundle has for a lock; Windows cannot link to one."""
    inside = lock.get("environment")
    if not isinstance(inside, str) or not is_inside(inside) or sys.platform == "win32":
        return None
    return os.path.join(bundle, inside)
