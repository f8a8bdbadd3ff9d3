"""The form `venv`: a ready environment per script and target, used in place from the share, also a read-only one.

uv lays it out from the bundle's wheels, by hash, for the target's platform; then everything is compiled to bytecode by
a Python of the target's minor version, which writes the same for every platform. The compiled files say that nobody
needs to compare them with their sources ("unchecked" by hash, PEP 552): times of modification on the share do not
matter, and the same inputs give the same bytes. What only the node knows, above all the interpreter, the launcher adds
there, in an environment of its own that links here.

    envs/SCRIPT/TARGET/LOCK/pyvenv.cfg, bin/, lib/python3.12/site-packages/    LOCK: of the lock's sha256
    envs/bin/uv                                                                a stand-in for `uv run SCRIPT`
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.builder.formats.base import locks_of, with_locks
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError
from offline_bundle.wheelhouse.runtime.interpreters import find_interpreter
from offline_bundle.wheelhouse.runtime.names import ENVIRONMENT_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from offline_bundle.builder.compose import Composition
    from offline_bundle.builder.formats.base import FormatContext
    from offline_bundle.wheelhouse.runtime.manifest import BundledLock, Manifest

FOLDER = "envs"
STAND_IN = f"{FOLDER}/bin/uv"
_NOT_OURS = {"_virtualenv.py", "_virtualenv.pth"}


class VenvFormat:
    """See above, and `offline_bundle.builder.formats.base.Format`."""

    def lacks(self, manifest: Manifest) -> bool:
        """Whether a lock has no environment."""
        return any(lock.environment is None for _, _, lock in locks_of(manifest))

    def add(self, composition: Composition, workshop: FormatContext) -> Composition:
        """Make one for each lock that lacks it; those that cannot be made here are left out, and named."""
        manifest = composition.manifest
        stand_in = workshop.place / "stand-in"
        stand_in.write_bytes(workshop.read(composition, "runtime/launcher/uv_shim.py"))
        stand_in.chmod(0o755)
        files = {STAND_IN: stand_in}
        made: dict[tuple[str, str], str] = {}
        for name, key, lock in locks_of(manifest):
            if lock.environment:
                made[name, key] = lock.environment
                continue
            target = Target(manifest.targets[key].python, manifest.targets[key].platform)
            interpreter = find_interpreter(target.version) if _can_make(target) else None
            if interpreter is None:
                why = (
                    f"no Python {target.python} is here"
                    if _can_make(target)
                    else "only the node can make it"
                )
                workshop.notes.append(f"{name}.py for {key} gets no ready environment: {why}")
                continue
            place = workshop.place / FOLDER / f"{len(made)}"
            _make(composition, workshop, lock, target, interpreter, place)
            made[name, key] = (
                f"{FOLDER}/{name}/{key}/{(manifest.files[lock.lock].sha256 or '')[:16]}"
            )
            files |= {
                f"{made[name, key]}/{path.relative_to(place).as_posix()}": path
                for path in _files(place)
            }
        if not made:
            raise InputError(
                "--format venv: no environment can be made here",
                problems=workshop.notes,
                hint="have a Python of the nodes' minor version here, such as by `uv python install 3.12`; "
                "for Windows and free-threaded Pythons leave out --format venv",
            )
        return with_locks(
            composition,
            lambda name, key, lock: replace(lock, environment=made.get((name, key))),
            files,
        )


def _can_make(target: Target) -> bool:
    """Not for Windows, nor for free-threaded Pythons, whose folders are others."""
    return target.system != "windows" and not target.is_free_threaded


def _make(  # noqa: PLR0913, PLR0917 - what, with what, where
    composition: Composition,
    workshop: FormatContext,
    lock: BundledLock,
    target: Target,
    interpreter: str,
    place: Path,
) -> None:
    with tempfile.TemporaryDirectory(prefix="uv-", dir=workshop.place) as folder:
        wheels = Path(folder) / "wheels"
        wheels.mkdir()
        for package in lock.packages.values():
            source = workshop.find(composition, package.wheel)
            (wheels / Path(package.wheel).name).symlink_to(Path(source).absolute())  # type: ignore[arg-type]  # a file
        requirements = Path(folder) / "requirements.txt"
        requirements.write_bytes(workshop.read(composition, lock.requirements))
        uv = [
            workshop.uv,
            "--no-config",
            "--offline",
            "--no-progress",
            "--color",
            "never",
            "--cache-dir",
            f"{folder}/c",
        ]
        _run(
            [*uv, "venv", "--relocatable", "--no-project", "--python", interpreter, str(place)],
            place.name,
        )
        flags = [
            "--no-index",
            "--find-links",
            str(wheels),
            "--require-hashes",
            "--no-build",
            "--link-mode",
            "hardlink",
        ]
        flags += ["--python-platform", target.platform, "--python-version", f"{target.python}"]
        flags += ["--allow-empty-requirements", "--python", str(place / "bin" / "python")]
        _run([*uv, "pip", "sync", *flags, str(requirements)], lock.lock)
    compiling = [
        "-I",
        "-m",
        "compileall",
        "-qq",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(place),
    ]
    # Some packages carry files that are no Python of this version; their importer is told, nobody else.
    subprocess.run([interpreter, *compiling, str(place / "lib")], capture_output=True, check=False)
    _drop_notes_of_uv(place)
    (place / ENVIRONMENT_MARK).write_text(
        f"include-system-site-packages = false\nversion = {target.python}\nrelocatable = true\n",
        encoding="ascii",
    )


def _drop_notes_of_uv(place: Path) -> None:
    """uv notes the time of a wheel that it took from a folder: of no use to anybody, and never the same twice."""  # noqa: D403
    for note in place.rglob("*.dist-info/uv_cache.json"):
        note.unlink()
        record = note.with_name("RECORD")
        lines = record.read_bytes().splitlines(keepends=True)
        record.unlink()  # it may be a link into uv's cache
        record.write_bytes(b"".join(line for line in lines if b"/uv_cache.json," not in line))


def _run(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        problems = done.stderr.strip().splitlines()
        hint = "what uv says is above; without --format venv the launcher makes it on each node"
        raise FetchError(
            f"the environment for {what} could not be made", problems=problems, hint=hint
        )


def _files(place: Path) -> Iterator[Path]:
    """What packages put there, and the mark; not what every environment has."""
    yield place / ENVIRONMENT_MARK
    for path in sorted(place.rglob("*")):
        inside = path.relative_to(place).parts
        is_own = len(inside) == 1 or (
            inside[0] == "bin" and (path.is_symlink() or _is_generic(path.name))
        )
        if not is_own and path.is_file() and not path.is_symlink() and path.name not in _NOT_OURS:
            yield path


def _is_generic(name: str) -> bool:
    return name.startswith(("activate", "deactivate", "pydoc")) or name.endswith(
        (".bat", ".ps1", ".nu")
    )
