"""HPS execution script: run a Python script from an offline bundle.

It runs inside the evaluator and needs nothing but its Python (3.8 or newer) and `ansys.rep`. What it looks for:

the bundle   the input file offline-bundle.tar, unpacked once per node by the input file *unpack.py, which checks
             every digest; else OFFLINE_BUNDLE in the environment of the task, of the registered uv, or of the
             evaluator; else the one that UV_CONFIG_FILE (BUNDLE/uv.toml) or UV_CACHE_DIR (BUNDLE/cache) there
             lies in; else the one input file *.tar
the script   OFFLINE_BUNDLE_SCRIPT; else the input file named `script` or `eval`; else the one *.py with metadata
uv           OFFLINE_BUNDLE_UV; else the registered software `uv`; else the bundle's own, which the launcher finds

It starts BUNDLE/run.py, the bundle's launcher, which prepares the script's environment, offline and once per node.
Parameter values are written to input_parameters.json for the script, and read from output_parameters.json after it.
If those name an `exe` in an environment inside the task's directory, that environment is removed, as in the public
example; a shared one stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansys.rep.common.logging import log  # type: ignore[import-untyped]
from ansys.rep.evaluator.task_manager import ApplicationExecution  # type: ignore[import-untyped]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INPUT_PARAMETERS = Path("input_parameters.json")
OUTPUT_PARAMETERS = Path("output_parameters.json")
SCRIPT_NAMES = ("script", "eval")
MANIFEST = "bundle.json"
ARCHIVE = "offline-bundle.tar"
UNPACKER = "unpack.py"


class OfflineBundleExecution(ApplicationExecution):  # type: ignore[misc]  # its base is HPS's
    """Runs the script; raises where the task has failed."""

    def execute(self) -> None:
        """Find everything, run the launcher, read the results."""
        log.info("Start execution script of offline-bundle")
        uv = find_uv(self.context.software)
        environment = merge_environments(
            os.environ, uv.get("environment"), self.context.environment
        )
        script = find_script(self.context.input_files, environment.get("OFFLINE_BUNDLE_SCRIPT"))
        bundle = find_bundle(self.context.input_files, environment)
        executable = unquoted(uv.get("executable") or "")
        if executable and not environment.get("OFFLINE_BUNDLE_UV"):
            environment["OFFLINE_BUNDLE_UV"] = executable
        log.info(f"Script: {script}")
        log.info(f"Bundle: {bundle}")
        log.info(f"uv: {environment.get('OFFLINE_BUNDLE_UV') or 'the one in the bundle'}")
        write_parameters(self.context.parameter_values)
        # -S: the launcher needs nothing of what is installed there, and starts sooner
        launcher = [launcher_python(), "-S", str(bundle / "run.py"), "--bundle", str(bundle)]
        log.info(f"Launcher: {' '.join(launcher)}")
        self._run(launcher, script, environment)
        produced = read_parameters()
        self.context.parameter_values.update(produced)
        remove_own_environment(produced.get("exe"))
        log.info("End execution script of offline-bundle")

    def _run(self, launcher: list[str], script: Path, environment: dict[str, str]) -> None:
        """Run the script; where that fails, ask the launcher whether it was why, and fail with its own words."""
        try:
            self.run_and_capture_output([*launcher, str(script)], shell=False, env=environment)
        except Exception as error:
            command = [*launcher, "--prepare", "-q", str(script)]
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            said = done.stderr.decode(errors="replace").strip()
            if done.returncode and said:
                raise RuntimeError(said) from error
            raise RuntimeError(f"{script.name} failed: {error}") from error


def find_uv(software: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the registered uv, or nothing: the bundle may have its own."""
    return next((found for found in software if str(found.get("name", "")).lower() == "uv"), {})


def merge_environments(*layers: Mapping[str, Any] | None) -> dict[str, str]:
    """Merge as HPS does: the evaluator's, then the software's registration, then the task definition's."""
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(
            {str(name): str(value) for name, value in (layer or {}).items() if value is not None}
        )
    return merged


def unquoted(path: str) -> str:
    """Strip the quotes that registrations put around a path with blanks."""
    path = path.strip()
    return path[1:-1] if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'" else path


def find_script(inputs: Sequence[Mapping[str, Any]], chosen: str | None) -> Path:
    """Return the script's absolute path. *chosen* is an input file's name, or a path."""
    paths = {str(file["name"]): Path(file["path"]).absolute() for file in inputs}
    if chosen:
        given = [path for name, path in paths.items() if chosen in {name, path.name}]
        path = given[0] if given else Path(chosen).absolute()
        if not path.is_file():
            raise FileNotFoundError(
                f"OFFLINE_BUNDLE_SCRIPT={chosen} is neither an input file nor a file here"
            )
        return path
    own = Path(__file__).resolve()
    scripts = {
        name: path
        for name, path in paths.items()
        if path.suffix == ".py"
        and not path.name.endswith(UNPACKER)
        and path.resolve() != own
        and name != "exec_script"
    }
    for name in SCRIPT_NAMES:
        if name in scripts:
            return scripts[name]
    candidates = [path for path in scripts.values() if has_metadata(path)] or list(scripts.values())
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(sorted(path.name for path in candidates)) or "none"
    raise RuntimeError(
        f"which input file is the script? There is: {names}. Name one with OFFLINE_BUNDLE_SCRIPT"
    )


def has_metadata(path: Path) -> bool:
    """Tell whether a script begins a metadata block (PEP 723)."""
    with path.open("rb") as stream:
        return any(line.rstrip() == b"# /// script" for line in stream)


def find_bundle(inputs: Sequence[Mapping[str, Any]], environment: Mapping[str, str]) -> Path:
    """Return the bundle's directory: the one that travelled with the project, else the one on this node."""
    paths = [Path(file["path"]).absolute() for file in inputs]
    archives = [path for path in paths if path.name == ARCHIVE]
    named = unquoted(environment.get("OFFLINE_BUNDLE", "")) or bundle_of_uv(environment)
    if named and not archives:
        if os.access(Path(named) / MANIFEST, os.R_OK):
            return Path(named)
        raise FileNotFoundError(
            f"no bundle at OFFLINE_BUNDLE={named}: this node cannot read a {MANIFEST} there"
        )
    archives = archives or [path for path in paths if path.suffix == ".tar"]
    if len(archives) != 1:
        raise RuntimeError(
            "no bundle: set OFFLINE_BUNDLE in the environment of the task definition or of the registered uv,"
            " or give the bundle's archive as the one input file *.tar"
        )
    unpackers = [path for path in paths if path.name.endswith(UNPACKER)]
    if not unpackers:
        raise RuntimeError(
            f"{archives[0].name} cannot be unpacked: there is no input file *{UNPACKER}"
        )
    return unpack_once(archives[0], unpackers[0], environment)


def bundle_of_uv(environment: Mapping[str, str]) -> str:
    """Return the bundle that uv is set up for: its uv.toml or its cache is named. Empty where it is none."""
    places = [
        Path(unquoted(environment.get(name, ""))).parent
        for name in ("UV_CONFIG_FILE", "UV_CACHE_DIR")
    ]
    return next(
        (str(place) for place in places if place.is_absolute() and (place / MANIFEST).is_file()), ""
    )


def unpack_once(archive: Path, unpacker: Path, environment: Mapping[str, str]) -> Path:
    """Unpack an archive into this node's cache, or find it there; other tasks wait meanwhile."""
    folder = cache_directory(environment) / "bundles"
    folder.mkdir(mode=0o700, exist_ok=True)
    bundle = folder / archive_digest(archive)[:32]
    with locked(folder / f"{bundle.name}.lock"):
        if not (bundle / MANIFEST).is_file():
            log.info(f"Unpack {archive} to {bundle}")
            command = [launcher_python(), str(unpacker), str(archive), "-o", str(bundle)]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.decode(errors="replace").strip())
    return bundle


def archive_digest(archive: Path) -> str:
    """Return the sha256 of the manifest, an archive's first member: it has the digests of all the others."""
    with tarfile.open(archive, "r:") as opened:
        member = opened.next()
        content = (
            opened.extractfile(member) if member is not None and member.name == MANIFEST else None
        )
        if content is None:
            raise RuntimeError(
                f"{archive.name} is no archive of a bundle: its first file is not {MANIFEST}"
            )
        return hashlib.sha256(content.read()).hexdigest()


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Return the launcher's cache folder; one that others may write is refused."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folders = [
        Path(environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "offline-bundle"),
        Path(tempfile.gettempdir(), f"offline-bundle-{user}"),
    ]
    chosen = environment.get("OFFLINE_BUNDLE_CACHE")
    for folder in [Path(chosen).absolute()] if chosen else folders:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            is_own = not hasattr(os, "getuid") or (
                found.st_uid == os.getuid() and not found.st_mode & 0o022
            )
            if is_own and not folder.is_symlink() and os.access(folder, os.W_OK):
                return folder
    raise RuntimeError(
        "there is no cache folder that is this user's alone; name one with OFFLINE_BUNDLE_CACHE"
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between the processes of this node; on Windows nothing is held, and the unpacker sorts it out."""
    with path.open("ab") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def launcher_python() -> str:
    """Return the Python for the launcher: the evaluator's, or one on PATH where that is no plain Python."""
    is_plain = "python" in Path(sys.executable or "").name.lower() and not getattr(
        sys, "frozen", False
    )
    found = sys.executable if is_plain else shutil.which("python3") or shutil.which("python")
    if not found:
        raise RuntimeError(
            "this node has no Python to start the launcher with: neither python3 nor python is on PATH"
        )
    return found


def write_parameters(values: Mapping[str, Any]) -> None:
    """Write the job's values for the script; an input file of that name stays as it is."""
    if values and not INPUT_PARAMETERS.exists():
        INPUT_PARAMETERS.write_text(json.dumps(values), encoding="utf-8")


def read_parameters() -> dict[str, Any]:
    """Return what the script wrote for the job, if anything."""
    if not OUTPUT_PARAMETERS.is_file():
        log.info("No output parameters found.")
        return {}
    try:
        values = json.loads(OUTPUT_PARAMETERS.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RuntimeError(
            f"{OUTPUT_PARAMETERS}, which the script wrote, is not JSON: {error}"
        ) from error
    if not isinstance(values, dict):
        raise TypeError(f"{OUTPUT_PARAMETERS}, which the script wrote, is not a JSON object")
    log.info(f"Output parameters: {', '.join(sorted(values)) or 'none'}")
    return values


def remove_own_environment(executable: object) -> None:
    """Remove the virtual environment of *executable* if it is this task's own; one that others use stays."""
    if not isinstance(executable, str) or not executable:
        return
    environment = Path(executable).absolute().parent.parent.resolve()
    if Path.cwd().resolve() in environment.parents and (environment / "pyvenv.cfg").is_file():
        log.info(f"Remove the environment {environment}")
        shutil.rmtree(environment, ignore_errors=True)
    else:
        log.info(f"The environment {environment} is not this task's own: it stays")
