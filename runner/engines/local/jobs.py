"""The jobs of one script on this machine, as `JobSpec`s.

results = run_jobs(Path("eval.py"), Path("/shared/bundle"), jobs=10, directory=Path("out"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from offline_bundle.runner.engines.local.launch import prepare_environment
from offline_bundle.runner.engines.local.pool import JobResult, LocalPool
from offline_bundle.runner.model import JobSpec, job_name
from offline_bundle.runner.network import no_network_command
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

_NAMED_DIRECTORIES = 5


def run_jobs(  # noqa: PLR0913
    script: Path,
    bundle: Path,
    *,
    jobs: int,
    directory: Path,
    arguments: Sequence[str] = (),
    no_network: bool = False,
    parallel: int | None = None,
    python: str | None = None,
    options: Sequence[str] = ("-q",),
    on_result: Callable[[JobResult], None] | None = None,
) -> list[JobResult]:
    """Prepare the environment and run *script* as *jobs* jobs, each in a folder of *directory*.

    *options* and *python* are the launcher's. Raises `InputError` for job folders that are not
    empty, `JobsInterruptedError`, and the errors of the launcher.
    """
    directories = free_directories(directory, jobs)
    environment = prepare_environment(
        script, bundle, no_network=no_network, python=python, options=options
    )
    command = [environment.python, environment.script or str(script.absolute()), *arguments]
    specs = make_specs(command, directories, no_network=no_network)
    return LocalPool(environment, parallel=parallel).run(specs, on_result)


def make_specs(
    command: Sequence[str], directories: Sequence[Path], *, no_network: bool = False
) -> list[JobSpec]:
    """Return one job per directory."""
    words = tuple(no_network_command(command) if no_network else command)
    common = {"OFFLINE_BUNDLE_JOBS": str(len(directories))}
    return [JobSpec(number, path, words, common) for number, path in enumerate(directories, 1)]


def free_directories(directory: Path, jobs: int) -> list[Path]:
    """Return the paths of the job folders; raise if one is not empty. Nothing is created."""
    directories = [directory.absolute() / job_name(number, jobs) for number in range(1, jobs + 1)]
    try:
        taken = [path.name for path in directories if _is_taken(path)]
    except OSError as error:
        raise BundleError(
            f"cannot read {error.filename}: {error.strerror}",
            hint="name another folder with --output",
        ) from error
    if taken:
        more = ", …" if len(taken) > _NAMED_DIRECTORIES else ""
        names = ", ".join(taken[:_NAMED_DIRECTORIES]) + more
        raise InputError(
            f"{directory} already has results of jobs ({names}); nothing was started or changed",
            hint="name another directory with --output, or move these away",
        )
    return directories


def _is_taken(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))
