"""A request: script, bundle, values and limits of jobs, the same for every engine."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, NotInBundleError
from offline_bundle.wheelhouse.runtime.names import MANIFEST
from offline_bundle.wheelhouse.runtime.python.pep723 import read_block
from offline_bundle.wheelhouse.runtime.python.requirements import canonical_requirement
from offline_bundle.wheelhouse.runtime.sizes import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offline_bundle.runner.values import JobValues


@dataclass(frozen=True, kw_only=True)
class Request:
    """A script to run as jobs. None is the default of the engine."""

    script: Path
    values: JobValues
    """One row per job."""
    bundle: str | None = None
    """Its directory on the nodes; None if the engine has another way to find it."""
    inputs: tuple[Path, ...] = ()
    """More files in the working directory of the script."""
    outputs: tuple[str, ...] = ()
    """Files that the script must write, relative to its working directory."""
    output_values: tuple[str, ...] = ()
    """Names of numbers that the script writes to `output_parameters.json`."""
    name: str | None = None
    """Name of the project; None for the script's name and the number of jobs."""
    cores: float | None = None
    """Per job."""
    memory: int | None = None
    """Per job, in bytes."""
    max_execution_time: float | None = None
    """Per job, in seconds."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More environment variables for the script."""

    @property
    def project_name(self) -> str:
        """The name of the project."""
        return self.name or f"{self.script.stem} - {count(len(self.values.rows), 'job')}"


def check_request(request: Request) -> None:
    """Check the script's metadata, file names and the bundle before anything is submitted."""
    dependencies = _read_dependencies(request.script)
    names = [request.script.name, *(path.name for path in request.inputs)]
    problems = [f"{path} is not a file" for path in request.inputs if not path.is_file()]
    problems += [
        f"two files are named {name}"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    problems += [
        f"the output {name!r} {fault}"
        for name in request.outputs
        if (fault := _output_fault(name, names))
    ]
    clashing = sorted(set(request.output_values) & set(request.values.types))
    problems += [f"{name} is both an input and an output value" for name in clashing]
    if problems:
        hint = "correct these options, and submit again"
        raise InputError("the submission is not valid", problems=problems, hint=hint)
    if request.bundle and Path(request.bundle, MANIFEST).is_file():
        _check_bundle(request.script, dependencies, Path(request.bundle))


def _read_dependencies(script: Path) -> dict[str, str]:
    """Return the script's requirements: canonical spelling → as written."""
    try:
        block = read_block(script.read_text(encoding="utf-8"))
        table = tomllib.loads(block) if block is not None else None
    except OSError as error:
        hint = "check its path and permissions"
        raise InputError(f"cannot read {script}: {error.strerror}", hint=hint) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        hint = "the lines between `# /// script` and `# ///` are TOML, each after `# `"
        raise InputError(f"{script}: invalid metadata: {error}", hint=hint) from error
    except BundleError as error:
        raise InputError(f"{script}: {error.message}", hint=error.hint) from None
    if table is None:
        hint = "add a `# /// script` block that lists its dependencies (PEP 723)"
        raise InputError(f"{script} has no inline metadata", hint=hint)
    return {canonical_requirement(str(text)): str(text) for text in table.get("dependencies", [])}


def _check_bundle(script: Path, dependencies: Mapping[str, str], bundle: Path) -> None:
    """Raise if no node could run the script; the launcher on the node checks the rest."""
    scripts = read_manifest(bundle).scripts.values()
    missing = [
        dependencies.keys() - {canonical_requirement(text) for text in entry.dependencies}
        for entry in scripts
    ] or [set(dependencies)]
    fewest = min(missing, key=len)
    if fewest:
        named = ", ".join(dependencies[key] for key in sorted(fewest))
        raise NotInBundleError(
            f"{script} requires {named}, which the bundle {bundle} does not have",
            hint=f"with a network: build-offline-bundle {script.name} -o DIR, "
            "then transfer the bundle again",
        )


def _output_fault(name: str, taken: Sequence[str]) -> str | None:
    """Return what is wrong with the name of an output, or None."""
    path = PurePosixPath(name)
    if not name or not path.name or name != str(path) or re.search(r"[\x00-\x1f\\]", name):
        return "is not a file name"
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        return "leaves the job's directory"
    return "is an input, too" if name in taken else None
