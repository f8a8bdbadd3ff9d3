"""A request: script, bundle, values and limits of jobs, the same for every engine."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Self

from offline_bundle.runner.job_files.inputs import InputFile, plan_inputs
from offline_bundle.runner.job_files.local_modules import check_local_modules
from offline_bundle.runner.job_files.names import INPUT_PARAMETERS, NUMBER_PARAMETER
from offline_bundle.runner.job_files.outputs import output_fault, plan_outputs
from offline_bundle.runner.resources import column_problems, group_by_amounts
from offline_bundle.runner.signed_files import check_inputs
from offline_bundle.runner.standalone.job_rules import Outputs, fill
from offline_bundle.runner.values import JobValues, Value
from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, NotInBundleError
from offline_bundle.wheelhouse.runtime.names import MANIFEST
from offline_bundle.wheelhouse.runtime.python.pep723 import read_block
from offline_bundle.wheelhouse.runtime.python.requirements import canonical_requirement
from offline_bundle.wheelhouse.runtime.sizes import count

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""The variable that gives libraries the number of their threads."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A script to run as jobs. None is the default of the engine."""

    script: Path
    values: JobValues
    """One row per job."""
    bundle: str | None = None
    """Its directory on the nodes; None if the engine has another way to find it."""
    inputs: tuple[Path, ...] = ()
    """More files and folders in the working directory of the script: see `job_files.inputs`."""
    outputs: tuple[str, ...] = ()
    """Patterns of files that the script must write: see `job_files.outputs`."""
    output_limit: int | None = None
    """Largest output file that is collected, in bytes."""
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
    gpus: int | None = None
    """Per node of a job."""
    nodes: int | None = None
    """Per job."""
    tasks: int | None = None
    """Processes of the script per job, as for MPI."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More environment variables for the script."""
    arguments: tuple[str, ...] = ()
    """Arguments of the script; `{name}` is replaced by the value of the job."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Resources that a value of each job gives: `cores` → the name of the value."""
    run_with: tuple[str, ...] = ()
    """A command that starts the script's launcher: `mpirun -n 4`."""

    @property
    def project_name(self) -> str:
        """The name of the project."""
        return self.name or f"{self.script.stem} - {count(len(self.values.rows), 'job')}"

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables: libraries use as many threads as the job has cores."""
        threads = {THREADS_VARIABLE: str(math.ceil(self.cores))} if self.cores else {}
        return {**threads, **self.environment}

    def by_resources(self) -> list[tuple[Self, list[int]]]:
        """Return a request for each set of resources, and the numbers of its jobs."""
        return [
            (replace(self, columns={}, **dict(zip(self.columns, amounts, strict=True))), numbers)
            for amounts, numbers in group_by_amounts(self.columns, self.values).items()
        ]

    def arguments_of(self, row: Mapping[str, Value]) -> list[str]:
        """Return the arguments of a job with these values."""
        return [fill(text, dict(row)) for text in self.arguments]

    @property
    def wanted(self) -> Outputs:
        """The output files to collect."""
        return plan_outputs(self.outputs, self.output_limit)


def check_request(request: Request) -> tuple[InputFile, ...]:
    """Check all that can be refused before anything is submitted; return the files of each job."""
    dependencies = _read_dependencies(request.script, request.bundle)
    files, problems = plan_inputs(request.script, request.inputs)
    paths = {file.path for file in files}
    problems += [
        f"the output {name!r} {fault}"
        for name in request.outputs
        if (fault := output_fault(name, paths))
    ]
    clashing = sorted(set(request.output_values) & set(request.values.types))
    problems += [f"{name} is both an input and an output value" for name in clashing]
    problems += [*_argument_problems(request), *column_problems(request.columns, request.values)]
    if NUMBER_PARAMETER in request.values.types:
        problems.append(f"{NUMBER_PARAMETER}: the number of the job has this name")
    if request.values.types and INPUT_PARAMETERS in paths:
        problems.append(f"{INPUT_PARAMETERS}: the values of jobs are written to this file")
    if problems:
        hint = "correct these options, and submit again"
        raise InputError("the submission is not valid", problems=problems, hint=hint)
    check_local_modules(request.script, files)
    if request.bundle and Path(request.bundle, MANIFEST).is_file():
        _check_bundle(request.script, dependencies, Path(request.bundle))
        return check_inputs(files, Path(request.bundle))
    return files


def check_resources(request: Request, engine: str, *names: str) -> None:
    """Raise `InputError` if the request has a resource that this engine does not support."""
    for name in names:
        if getattr(request, name) or name in request.columns:
            option = name.replace("_", "-")
            message = f"--{option} is not supported by --engine {engine}"
            raise InputError(message, hint="leave it out")


def _argument_problems(request: Request) -> Iterator[str]:
    known = ", ".join(request.values.types) or "none"
    for text in request.arguments:
        try:
            fill(text, dict.fromkeys(request.values.types))
        except KeyError as error:
            yield f"the argument {text!r} names {error.args[0]!r}; the values are {known}"


def _read_dependencies(script: Path, bundle: str | None) -> dict[str, str]:
    """Return the script's requirements: canonical spelling → as written.

    As in the launcher, a script without metadata has that of the bundle's script of its name.
    """
    if script.exists() and not script.is_file():  # a pipe can be read only once, or never ends
        raise InputError(f"{script} is not a regular file", hint="save the script to one")
    try:
        block = read_block(script.read_text(encoding="utf-8"))
        table = tomllib.loads(block) if block is not None else None
    except OSError as error:
        hint = "check its path and permissions"
        raise InputError(f"cannot read {script}: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError) as error:  # also UTF-8, and numbers without end
        hint = "the lines between `# /// script` and `# ///` are TOML, each after `# `"
        raise InputError(f"{script}: invalid metadata: {error}", hint=hint) from error
    except BundleError as error:
        raise InputError(f"{script}: {error.message}", hint=error.hint) from None
    if table is None and bundle:
        bundled = Path(bundle, "scripts", script.name)
        if bundled.is_file():
            return _read_dependencies(bundled, None)
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
            hint=f"with a network: build-offline-bundle {quote(script.name)} -o DIR, "
            "then transfer the bundle again",
        )
