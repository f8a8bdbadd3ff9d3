"""Choose the lock of the bundle that fits the script and this node."""

import os
import sys
from dataclasses import replace
from shlex import quote

from ..errors import NotInBundleError
from ..python.pep723 import block_digest
from ..python.platforms import dotted_version, parse_platform, version_numbers
from ..python.requirements import python_matches
from .prepare.bundled_python import bundled_interpreter
from .prepare.plan import Plan
from .script_metadata import ScriptMetadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional, Union

    from ..bundle.manifest import BundledLock, BundledScript, Manifest
    from ..python.interpreters import Interpreter, Interpreters
    from .request import Request
    from .trusted_bundle import TrustedBundle

_SAME_BLOCK, _SAME_REQUIREMENTS, _MORE_REQUIREMENTS = range(3)


def find_candidates(
    request: "Request", manifest: "Manifest", metadata: ScriptMetadata
) -> "list[BundledScript]":
    """Return the bundled scripts whose lock serves this one, best first; raise if there is none.

    Best is the same block, then the same requirements, then the fewest more of them; among equals,
    the one of the same name.
    """
    digest = block_digest(request.block)
    ranks = {}
    for name, script in manifest.scripts.items():
        bundled = ScriptMetadata.of_bundled(script)
        has_other_name = os.path.basename(script.path) != request.name
        surplus = len(set(bundled.dependencies) - set(metadata.dependencies))
        if script.block == digest:
            ranks[name] = (_SAME_BLOCK, 0, has_other_name, name)
        elif metadata.equals(bundled):
            ranks[name] = (_SAME_REQUIREMENTS, 0, has_other_name, name)
        elif metadata.is_covered_by(bundled):
            ranks[name] = (_MORE_REQUIREMENTS, surplus, has_other_name, name)
    if not ranks:
        raise _not_in_bundle(request, manifest, metadata)
    return [manifest.scripts[name] for name in sorted(ranks, key=ranks.__getitem__)]


def _not_in_bundle(
    request: "Request", manifest: "Manifest", metadata: ScriptMetadata
) -> NotInBundleError:
    """Return the error: a comparison with the bundled script of the same name, or the closest."""
    hint = (
        f"on the connected side: build-offline-bundle {quote(request.name)} -o DIR, "
        "then copy the bundle again"
    )

    def difference(script: "BundledScript") -> "tuple[bool, int, str]":
        dependencies = set(ScriptMetadata.of_bundled(script).dependencies)
        has_other_name = os.path.basename(script.path) != request.name
        return has_other_name, len(dependencies ^ set(metadata.dependencies)), script.path

    closest = min(manifest.scripts.values(), key=difference, default=None)
    if closest is None:
        message = f"{request.bundle} has no scripts, so nothing that {request.name} needs"
        return NotInBundleError(message, hint=hint)
    bundled = ScriptMetadata.of_bundled(closest).dependencies
    bundled_name = os.path.basename(closest.path)
    added = [text for key, text in metadata.dependencies.items() if key not in bundled]
    message = f"the [tool.uv] settings of {request.name} differ from the bundle's {bundled_name}"
    if added:
        names = ", ".join(added)
        message = f"{request.name} needs {names}, which the bundle's {bundled_name} did not need"
    return NotInBundleError(message, hint=hint)


class _Pythons:
    """The interpreters for each target: the one that the bundle includes, then this node's own."""

    def __init__(self, manifest: "Manifest", interpreters: "Interpreters", cache: str) -> None:
        self.manifest = manifest
        self.node = interpreters.node
        self._interpreters = interpreters
        self._cache = cache

    def of_target(self, name: str) -> "Iterator[Interpreter]":
        """Yield the interpreters that fit a target, preferred ones first."""
        python = self.manifest.targets[name].python
        abi = python.endswith("t")
        minor = version_numbers(python.rstrip("t"))[:2]
        others = self._interpreters
        if name in self.manifest.pythons and not others.explicit and others.may_be(minor):
            yield bundled_interpreter(self.manifest, name, minor, self._cache, free_threaded=abi)
        yield from others.of_minor(minor, free_threaded=abi)


def choose_lock(
    request: "Request",
    bundle: "TrustedBundle",
    metadata: ScriptMetadata,
    interpreters: "Interpreters",
    cache: str,
) -> Plan:
    """Return the best lock that fits, of the best script: highest manylinux, then newest Python."""
    pythons = _Pythons(bundle.manifest, interpreters, cache)
    misfits = []
    for script in find_candidates(request, bundle.manifest, metadata):
        for target in _best_targets_first(bundle.manifest, script):
            lock = script.locks[target]
            python = _fitting_python(pythons, target, lock, metadata.requires_python)
            if isinstance(python, str):
                misfits.append(f"{target}: {python}")
                continue
            _report_removed(request, script, metadata)
            request.log(f"Chosen: {lock.lock} with {python}", 1)
            plan = Plan(bundle, target, lock, interpreters.node, python)
            return plan if sys.platform == "win32" else _with_ready_environment(plan)
    raise _nothing_fits(request, metadata, interpreters, misfits)


def _best_targets_first(manifest: "Manifest", script: "BundledScript") -> "list[str]":
    def rank(name: str) -> "tuple[Any, ...]":
        target = manifest.targets[name]
        python = version_numbers(target.python.rstrip("t"))
        return parse_platform(target.platform).libc_version, python, name

    return sorted(script.locks, key=rank, reverse=True)


def _fitting_python(
    pythons: _Pythons, name: str, lock: "BundledLock", requires_python: "Optional[str]"
) -> "Union[Interpreter, str]":
    """Return the interpreter for this lock on this node, or why there is none."""
    target = pythons.manifest.targets[name]
    misfit = pythons.node.misfit(target.platform, version_numbers(lock.libc or ""))
    if misfit:
        return misfit
    for python in pythons.of_target(name):
        if python_matches(requires_python, python.version):
            return python
    suffix = f" that satisfies requires-python {requires_python!r}" if requires_python else ""
    return f"no CPython {target.python}{suffix}"


def _nothing_fits(
    request: "Request",
    metadata: ScriptMetadata,
    interpreters: "Interpreters",
    misfits: "list[str]",
) -> NotInBundleError:
    needs_python = any(": no CPython" in misfit for misfit in misfits)
    here = "name a fitting interpreter with --python PATH, or " if needs_python else ""
    node = interpreters.node
    usable = [python.version for python in interpreters.usable() if not python.is_free_threaded]
    usable = [found for found in usable if python_matches(metadata.requires_python, found)]
    minor = dotted_version(max(usable)[:2]) if usable else "X.Y"
    return NotInBundleError(
        f"nothing in the bundle for {request.name} fits this node",
        problems=[
            f"this node: {node}",
            f"its interpreters: {interpreters}",
            "the bundle: " + "; ".join(dict.fromkeys(misfits) or ["no locks"]),
        ],
        hint=f"{here}on the connected side: build-offline-bundle {quote(request.name)} -o DIR "
        f"--python-version {minor} --python-platform {node.platform()}",
    )


def _report_removed(request: "Request", script: "BundledScript", metadata: ScriptMetadata) -> None:
    bundled = ScriptMetadata.of_bundled(script).dependencies
    removed = [text for key, text in bundled.items() if key not in metadata.dependencies]
    if removed:
        request.log(
            f"{request.name} does not list {', '.join(removed)}; "
            f"it runs in the environment of {os.path.basename(script.path)}"
        )


def _with_ready_environment(plan: Plan) -> Plan:
    """Return *plan* with what the bundle includes besides the wheels: the image is preferred.

    Not for Windows, which has no links to use it in place.
    """
    lock = plan.lock
    if lock.image:
        return replace(plan, image=lock.image)
    ready = plan.bundle.path(lock.environment) if lock.environment else None
    return replace(plan, ready_environment=ready)
