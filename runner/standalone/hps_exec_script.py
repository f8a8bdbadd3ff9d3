"""HPS execution script: run a Python script from an offline bundle.

It runs inside the evaluator, with its Python (3.8 or newer) and `ansys.rep` only. It looks for:

the bundle   the input file offline-bundle.tar, unpacked once per node by the input file *unpack.py,
             which verifies every digest; else OFFLINE_BUNDLE in the environment of the task, of the
             registered uv, or of the evaluator; else the bundle of UV_CONFIG_FILE (BUNDLE/uv.toml)
             or UV_CACHE_DIR (BUNDLE/cache) there; else the only input file *.tar
the script   OFFLINE_BUNDLE_SCRIPT; else the input file named `script` or `eval`; else the only
             input file *.py with metadata
uv           OFFLINE_BUNDLE_UV; else the registered software `uv`; else the launcher finds the uv
             of the bundle

It starts BUNDLE/run.py, the bundle's launcher, which prepares the script's environment offline and
once per node. Where a signature policy is in force, nothing from the bundle runs: it starts the
site's own launcher, which the policy names, and unpacks with the unpack.py next to that.

Parameter values are written to input_parameters.json for the script, and read from
output_parameters.json after it. If those name an `exe` in an environment inside the task's
directory, that environment is removed, as in the public example; shared environments are kept.
Errors, and outputs that are missing, are in the task's console output. Jobs of `submit` have an
input file, offline_bundle_job.py, that starts the launcher and applies the rules of all engines.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager, suppress
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
CONSOLE = "console_output.txt"
JOB_RULES = "offline_bundle_job.py"
POLICY = "/etc/offline-bundle/policy.json"


class OfflineBundleExecution(ApplicationExecution):  # type: ignore[misc]  # its base is HPS's
    """Runs the script; raises if the task failed."""

    def execute(self) -> None:
        """Run the script. Errors are added to the console output: clients see no other log."""
        log.info("Start execution script of offline-bundle")
        try:
            self._execute()
        except ScriptError:
            raise  # the launcher or the script has printed why
        except Exception as error:
            self._print(f"error: {error}", 1)
            raise
        log.info("End execution script of offline-bundle")

    def _execute(self) -> None:
        with suppress(AttributeError, ValueError):  # Windows, or not the main thread
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it makes each exit code 0
        uv, inputs = find_uv(self.context.software), self.context.input_files
        layers = uv.get("environment"), self.context.environment
        environment = merge_environments(os.environ, *layers)
        script = find_script(inputs, environment.get("OFFLINE_BUNDLE_SCRIPT"))
        site = site_launcher(environment)
        bundle = find_bundle(inputs, environment, site and site.with_name(UNPACKER))
        executable = unquoted(uv.get("executable") or "")
        if executable and not environment.get("OFFLINE_BUNDLE_UV"):
            environment["OFFLINE_BUNDLE_UV"] = executable
        log.info(f"Script: {script}")
        log.info(f"Bundle: {bundle}")
        log.info(f"uv: {environment.get('OFFLINE_BUNDLE_UV') or 'of the bundle'}")
        write_parameters(self.context.parameter_values)
        # -S: without site-packages the launcher starts sooner
        program = ["-IS", str(site)] if site else ["-S", str(bundle / "run.py")]
        launcher = [launcher_python(), *program, "--bundle", str(bundle)]
        log.info(f"Launcher: {' '.join(launcher)}")
        self._run(launcher, script, environment)
        parameters = read_parameters()
        self.context.parameter_values.update(parameters)
        remove_own_environment(parameters.get("exe"))
        missing = missing_outputs(getattr(self.context, "output_files", None) or ())
        if missing and JOB_RULES not in {file["name"] for file in inputs}:  # they print it
            self._print("\n".join(f"error: output is missing: {path}" for path in missing), 0)

    def _run(self, launcher: list[str], script: Path, environment: dict[str, str]) -> None:
        """Run the script; if that fails because of the launcher, fail with the launcher's error."""
        rules = [file["path"] for file in self.context.input_files if file["name"] == JOB_RULES]
        command = [*([launcher[0], "-S", *rules] if rules else []), *launcher, str(script)]
        try:
            self.run_and_capture_output(command, shell=False, env=environment)
        except Exception as error:  # noqa: BLE001 - the base class is HPS's and may raise anything
            command = [*launcher, "--prepare", "-q", str(script)]
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            output = done.stderr.decode(errors="replace").strip()
            if done.returncode and output:
                # 2 and 6 are faults of the script and of signatures: the same on each node
                prefix = "" if done.returncode in (2, 6) else "the node failed, not the script\n"
                raise ScriptError(prefix + output) from None  # short: clients see the last lines
            raise ScriptError(f"{script.name} failed: {error}") from None

    def _print(self, text: str, code: int) -> None:
        """Add text to the console output: HPS stores there what commands print."""
        program = "import sys; print(sys.argv[1], flush=True); sys.exit(int(sys.argv[2]))"
        try:
            command = [launcher_python(), "-S", "-c", program, text, str(code)]
            self.run_and_capture_output(command, shell=False)
        except Exception as error:  # noqa: BLE001 - an exit code, or no Python on this node
            log.info(f"{text} ({error})")


class ScriptError(RuntimeError):
    """The launcher or the script failed; the console output has the reason."""


def find_uv(software: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the registered uv, or nothing: the bundle may have one."""
    return next((item for item in software if str(item.get("name", "")).lower() == "uv"), {})


def merge_environments(*layers: Mapping[str, Any] | None) -> dict[str, str]:
    """Merge as HPS does: evaluator, then the software's registration, then the task definition."""
    items = [item for layer in layers for item in (layer or {}).items()]
    return {str(name): str(value) for name, value in items if value is not None}


def unquoted(path: str) -> str:
    """Strip the quotes that registrations put around a path with blanks."""
    path = path.strip()
    return path[1:-1] if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'" else path


def find_script(inputs: Sequence[Mapping[str, Any]], chosen: str | None) -> Path:
    """Return the script's absolute path. *chosen* is an input file's name, or a path."""
    paths = {str(file["name"]): Path(file["path"]).absolute() for file in inputs}
    if chosen:
        named = [path for name, path in paths.items() if chosen in {name, path.name}]
        path = named[0] if named else Path(chosen).absolute()
        if not path.is_file():
            raise FileNotFoundError(
                f"OFFLINE_BUNDLE_SCRIPT={chosen} is neither an input file nor a file here"
            )
        return path
    scripts = {
        name: path
        for name, path in paths.items()
        if path.suffix == ".py"
        and not path.name.endswith(UNPACKER)
        and path.resolve() != Path(__file__).resolve()
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
        f"ambiguous: which input file is the script: {names}; set OFFLINE_BUNDLE_SCRIPT to one"
    )


def has_metadata(path: Path) -> bool:
    """Return True if a script begins a metadata block (PEP 723)."""
    with path.open("rb") as stream:
        return any(line.rstrip() == b"# /// script" for line in stream)


def site_launcher(environment: Mapping[str, str]) -> Path | None:
    """Return the launcher that the policy in force names, as the runtime's `site_launcher`."""
    folder = Path(POLICY).parent  # this user may not be able to search it
    if os.path.lexists(POLICY) or (folder.is_dir() and not os.access(folder, os.X_OK)):
        policy, users = Path(POLICY), {0}
    elif environment.get("OFFLINE_BUNDLE_POLICY"):
        policy = Path(environment["OFFLINE_BUNDLE_POLICY"]).absolute()
        users = {0, os.getuid()} if hasattr(os, "getuid") else set()
    else:
        return None
    check_not_writable_by_others(policy, users)
    try:
        text = policy.read_text(encoding="utf-8") if policy.is_file() else ""  # not a fifo
        launcher: Path = policy.parent / json.loads(text)["launcher"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RuntimeError(
            f"{policy} does not name a launcher, so jobs cannot check the bundle: "
            'add "launcher": the path of a reviewed run.py, with runtime/ and unpack.py next to it'
        ) from None
    for path in [launcher, *launcher.parent.glob(UNPACKER), *launcher.parent.glob("runtime/**/*")]:
        check_not_writable_by_others(path, users)
    return launcher


def check_not_writable_by_others(path: Path, users: set[int]) -> None:
    """Raise unless only *users* can have written or replaced the file."""
    if not hasattr(os, "getuid"):
        return
    root = {0, Path("/").stat().st_uid}  # 0 has another number where the namespace does not map it
    others = 0o002 if os.getgid() == os.getuid() in users else 0o022  # the group of one user
    for name in {path, *path.parents, path.resolve(), *path.resolve().parents}:
        state, link = name.stat(), name.lstat()
        is_planted = stat.S_ISLNK(link.st_mode) and name.parent.stat().st_mode & 0o022
        is_sticky = name != path and stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
        bits = others if state.st_gid == os.getgid() else 0o022
        with suppress(AttributeError, OSError):  # Linux only, and not on every file system
            bits |= 0o022 if "system.posix_acl_access" in os.listxattr(name) else 0
        is_foreign = {state.st_uid, link.st_uid} - users - root
        if is_foreign or is_planted or (state.st_mode & bits and not is_sticky):
            raise RuntimeError(f"{name} can be changed by others")


def find_bundle(
    inputs: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    unpacker: Path | None = None,
) -> Path:
    """Return the directory of the upload, unpacked by *unpacker* if any, else of a bundle here."""
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
            "no bundle: set OFFLINE_BUNDLE in the environment of the task definition or of the"
            " registered uv, or add the bundle's archive as the only input file *.tar"
        )
    unpacker = unpacker or next((path for path in paths if path.name.endswith(UNPACKER)), None)
    if unpacker is None or not unpacker.is_file():
        needed = unpacker or f"an input file *{UNPACKER}"
        raise RuntimeError(f"{archives[0].name} cannot be unpacked: {needed} is missing")
    return unpack_once(archives[0], unpacker, environment)


def bundle_of_uv(environment: Mapping[str, str]) -> str:
    """Return the bundle whose uv.toml or cache the variables name; empty if there is none."""
    for name in ("UV_CONFIG_FILE", "UV_CACHE_DIR"):
        folder = Path(unquoted(environment.get(name, ""))).parent
        if folder.is_absolute() and (folder / MANIFEST).is_file():
            return str(folder)
    return ""


def unpack_once(archive: Path, unpacker: Path, environment: Mapping[str, str]) -> Path:
    """Unpack an archive into this node's cache unless it is there; other tasks wait meanwhile."""
    folder = cache_directory(environment) / "bundles"
    folder.mkdir(mode=0o700, exist_ok=True)
    bundle = folder / archive_digest(archive)[:32]
    with locked(folder / f"{bundle.name}.lock"):
        if not (bundle / MANIFEST).is_file():
            log.info(f"Unpack {archive} to {bundle}")
            command = [launcher_python(), str(unpacker), str(archive), "-o", str(bundle)]
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.decode(errors="replace").strip())
    return bundle


def archive_digest(archive: Path) -> str:
    """Return the sha256 of the manifest, the first member: it has the digests of all others."""
    import hashlib  # noqa: PLC0415 - slow to import, and most tasks have no archive
    import tarfile  # noqa: PLC0415 - the same

    with tarfile.open(archive, "r:") as opened:
        member = opened.next()
        found = member if member is not None and member.name == MANIFEST else None
        content = opened.extractfile(found) if found else None
        if content is None:
            reason = f"its first file is not {MANIFEST}"
            raise RuntimeError(f"{archive.name} is not an archive of a bundle: {reason}")
        return hashlib.sha256(content.read()).hexdigest()


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Return the launcher's cache folder, made if need be. Raises if others may change it."""
    faults = []
    for folder in cache_candidates(environment):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fault = cache_fault(folder)
            if fault is None and not os.access(folder, os.W_OK | os.X_OK):
                fault = "cannot be written"
        except OSError as error:
            fault = str(error.strerror)
        if fault is None:
            return folder
        faults.append(f"{folder} {fault}")
    problems = "; ".join([*faults, "set OFFLINE_BUNDLE_CACHE to one"])
    raise RuntimeError(f"no cache folder that only this user can change: {problems}")


def cache_candidates(environment: Mapping[str, str]) -> list[Path]:
    """Return the paths where the cache may be, as `cache_candidates` of the launcher does."""
    chosen = environment.get("OFFLINE_BUNDLE_CACHE")
    if chosen:
        return [Path(os.path.abspath(chosen))]  # noqa: PTH100 - as the launcher, no link resolved
    home = environment.get("HOME") or environment.get("USERPROFILE")
    caches = environment.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")  # noqa: PTH118
    user = os.getuid() if hasattr(os, "getuid") else environment.get("USERNAME", "user")
    temporary = environment.get("TMPDIR") or environment.get("TEMP") or "/tmp"  # noqa: S108 - as the launcher
    fallback = Path(os.path.abspath(temporary), f"offline-bundle-{user}")  # noqa: PTH100
    return [Path(caches, "offline-bundle"), fallback] if os.path.isabs(caches) else [fallback]  # noqa: PTH117


def cache_fault(folder: Path) -> str | None:
    """Return why *folder* must not be the cache, as `cache_fault` of the launcher does."""
    if not folder.is_dir():
        return "is not a folder"
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return f"belongs to user {folder.stat().st_uid}, not to you (user {os.getuid()})"
    try:
        check_not_writable_by_others(folder, {os.getuid()} if hasattr(os, "getuid") else set())
    except RuntimeError as error:
        return str(error)
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes of this node; on Windows the unpacker handles concurrency."""
    with path.open("ab") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def launcher_python() -> str:
    """Return the Python for the launcher: the evaluator's, or one on PATH if it is frozen."""
    is_python = "python" in Path(sys.executable or "").name.lower()
    if is_python and not getattr(sys, "frozen", False):
        return sys.executable
    # absolute folders only: an input file of the task may be called python3
    path = os.pathsep.join(filter(os.path.isabs, os.get_exec_path()))
    python = shutil.which("python3", path=path) or shutil.which("python", path=path)
    if not python:
        raise RuntimeError("no Python for the launcher: neither python3 nor python is on PATH")
    return python


def write_parameters(values: Mapping[str, Any]) -> None:
    """Write the job's values for the script, unless an input file has that name."""
    if values and not INPUT_PARAMETERS.exists():
        INPUT_PARAMETERS.write_text(json.dumps(values), encoding="utf-8")


def read_parameters() -> dict[str, Any]:
    """Return the values that the script wrote for the job."""
    if not OUTPUT_PARAMETERS.is_file():
        log.info("No output parameters found.")
        return {}
    try:
        values = json.loads(OUTPUT_PARAMETERS.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RuntimeError(
            f"{OUTPUT_PARAMETERS}, which the script wrote, is not JSON: {error}"
        ) from error
    if not isinstance(values, dict):
        raise TypeError(f"{OUTPUT_PARAMETERS}, which the script wrote, is not a JSON object")
    log.info(f"Output parameters: {', '.join(sorted(values)) or 'none'}")
    return values


def missing_outputs(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the paths of output files that do not exist; a path may be a pattern."""
    paths = [str(file.get("path") or file.get("evaluation_path") or "") for file in outputs]
    relative = [path for path in paths if path and not os.path.isabs(path)]  # noqa: PTH117
    return [path for path in relative if path != CONSOLE and not glob.glob(path, recursive=True)]  # noqa: PTH207


def remove_own_environment(executable: object) -> None:
    """Remove the virtual environment of *executable* if it is inside this task's directory."""
    if not isinstance(executable, str) or not executable:
        return
    environment = Path(executable).absolute().parent.parent.resolve()
    if Path.cwd().resolve() in environment.parents and (environment / "pyvenv.cfg").is_file():
        log.info(f"Remove the environment {environment}")
        shutil.rmtree(environment, ignore_errors=True)
