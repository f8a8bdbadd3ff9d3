"""What to run, with what, and how often: the part of a submission that every engine understands."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, NotInBundleError
from offline_bundle.wheelhouse.runtime.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.pep723 import read_block
from offline_bundle.wheelhouse.runtime.requirements import canonical_requirement
from offline_bundle.wheelhouse.runtime.sizes import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offline_bundle.runner.values import JobValues


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to run. What is None is as the engine has it by default."""

    script: Path
    values: JobValues
    """One row per job."""
    bundle: str | None = None
    """Its directory, as the nodes see it; None where the engine knows another way to it."""
    inputs: tuple[Path, ...] = ()
    """Further files that the script finds in its working directory."""
    outputs: tuple[str, ...] = ()
    """Files the script leaves, relative to its working directory; a job without one of them has failed."""
    output_values: tuple[str, ...] = ()
    """Names of numbers that the script writes to `output_parameters.json`."""
    name: str | None = None
    """Of the project; None: the script's name and the number of jobs."""
    cores: float | None = None
    """Per job; None: what the engine takes for usual, here and below."""
    memory: int | None = None
    """Per job, in bytes."""
    max_execution_time: float | None = None
    """Per job, in seconds; then it is ended."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables for the script."""

    @property
    def project_name(self) -> str:
        """What the project is called."""
        return self.name or f"{self.script.stem} - {count(len(self.values.rows), 'job')}"


def check_request(request: Request) -> None:
    """Find what is wrong before anything is sent: no metadata, names that cannot be, a bundle that lacks something."""
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
        hint = "correct the options that are named, and submit again"
        raise InputError("the submission cannot be made", problems=problems, hint=hint)
    if request.bundle and Path(request.bundle, "bundle.json").is_file():
        _check_bundle(request.script, dependencies, Path(request.bundle))


def _read_dependencies(script: Path) -> dict[str, str]:
    """Read the script's requirements: canonical form → as written."""
    try:
        block = read_block(script.read_text(encoding="utf-8"))
        table = tomllib.loads(block) if block is not None else None
    except OSError as error:
        hint = "check its path and permissions"
        raise InputError(f"{script} cannot be read: {error.strerror}", hint=hint) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        hint = "the lines between `# /// script` and `# ///` are TOML, each behind `# `"
        raise InputError(f"{script}: its metadata cannot be read: {error}", hint=hint) from error
    except BundleError as error:
        raise InputError(f"{script}: {error.message}", hint=error.hint) from None
    if table is None:
        hint = "begin it with a `# /// script` block that lists its dependencies (PEP 723)"
        raise InputError(f"{script} has no inline metadata", hint=hint)
    return {canonical_requirement(str(text)): str(text) for text in table.get("dependencies", [])}


def _check_bundle(script: Path, dependencies: Mapping[str, str], bundle: Path) -> None:
    """Refuse what no node could run; the launcher on the node decides about the rest."""
    scripts = read_manifest(bundle).scripts.values()
    missing = [
        dependencies.keys() - {canonical_requirement(text) for text in entry.dependencies}
        for entry in scripts
    ] or [set(dependencies)]
    fewest = min(missing, key=len)
    if fewest:
        named = ", ".join(dependencies[key] for key in sorted(fewest))
        hint = f"on the connected side: build-offline-bundle {script.name} -o DIR, then carry the bundle over again"
        raise NotInBundleError(
            f"{script} needs {named}, which the bundle {bundle} does not hold", hint=hint
        )


def _output_fault(name: str, taken: Sequence[str]) -> str | None:
    """Say what is wrong with the name of an output, if anything is."""
    path = PurePosixPath(name)
    if not name or not path.name or name != str(path) or re.search(r"[\x00-\x1f\\]", name):
        return "is not the name of a file"
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        return "leaves the job's directory"
    return "is an input, too" if name in taken else None
