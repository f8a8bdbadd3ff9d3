"""The tools that are compared: how each is installed, called, and checked.

A run that does not leave every distribution it was asked for, with the bytes that the lock names, counts as
failed: a tool cannot be quick by doing less.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from floor import chosen_wheels, compile_command, wheel_name
from measure import Place, RunError, Sample, run, sha256
from packaging.utils import canonicalize_name, parse_wheel_filename
from workload import HERE, Target, Workload

PEERS = HERE / ".peers"
PIP_VERSION = "26.3"


class MissingToolError(Exception):
    """A tool that is not there to be measured."""


@dataclass(frozen=True)
class Bench:
    """What all tools share."""

    target: Target
    python: Path  # a plain interpreter of the target's minor
    uv: Path
    programs: Path  # a directory with nothing but `uv`
    index: str | None

    def search_path(self, first: Path | None = None) -> list[Path]:
        return [*([first] if first else []), self.programs, self.python.parent]


@dataclass(frozen=True)
class Expected:
    """What the floor's lock says must be there."""

    names: frozenset[str]
    digests: dict[str, str]  # wheel file name -> sha256

    @classmethod
    def of_lock(cls, lock: Path, target: Target) -> "Expected":
        chosen = chosen_wheels(lock, target)
        return cls(
            frozenset(str(canonicalize_name(name)) for name in chosen),
            {wheel_name(wheel): wheel["hashes"]["sha256"] for wheel in chosen.values()},
        )


class Tool(ABC):
    """One tool, installed once; `build` is what the clock measures."""

    key: str
    makes: str  # what comes out, a few words
    note: str = ""  # what was done so that it does the same job

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.version = ""

    def install(self) -> None:
        """Make the tool ready, with its bytecode. Raises MissingToolError when it can't be had."""
        self.version = "?"

    def prepare(self, place: Place, workload: Workload) -> None:
        """Write the tool's input: not measured."""
        del place, workload

    @abstractmethod
    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        """Commands whose times add up to the measurement."""

    def follow_ups(self, place: Place, workload: Workload) -> dict[str, list[list[str]]]:
        """What to measure after it in the same place, with its caches warm, by label."""
        del place, workload
        return {}

    @abstractmethod
    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        """Say in a few words what is there. Raises RunError when it isn't what was asked for."""

    def program_directory(self) -> Path | None:
        """Where the tool's own programs are, to be first on PATH."""
        return None

    def environment(self, place: Place) -> dict[str, str]:
        return place.environment(self.bench.search_path(self.program_directory()), self.bench.index)

    def check_wheels(self, place: Place, wheels: Sequence[Path], expected: Expected) -> str:
        """Check wheels against the lock, and that a resolver without network is content with them."""
        names = check_names((wheel.name for wheel in wheels), expected.names)
        for wheel in wheels:
            if sha256(wheel) != expected.digests.get(wheel.name, sha256(wheel)):
                raise RunError(f"{wheel.name} does not match the lock's sha256")
        others = sum(wheel.name not in expected.digests for wheel in wheels)
        size = sum(wheel.stat().st_size for wheel in wheels)
        self.check_resolvable(place, wheels, names)
        said = f"{len(wheels)} wheels, {size / 1e6:.0f} MB"
        return said + (f", {others} of them other files than the lock's" if others else "")

    def check_resolvable(self, place: Place, wheels: Sequence[Path], names: frozenset[str]) -> None:
        flat = place.root / "flat"
        flat.mkdir()
        for wheel in wheels:
            (flat / wheel.name).symlink_to(wheel)
        wanted = place.root / "wanted.in"
        wanted.write_text("\n".join(sorted(names)), encoding="utf-8")
        target = self.bench.target
        command = [
            *[
                str(self.bench.uv),
                "pip",
                "compile",
                str(wanted),
                "--quiet",
                "--offline",
                "--no-index",
            ],
            *["--find-links", str(flat), "--python-version", target.python],
            *["--python-platform", target.uv_platform, "-o", str(place.root / "resolved.txt")],
        ]
        try:
            run(command, place.environment(self.bench.search_path(), None), place.root)
        except RunError as error:
            raise RunError(f"its wheels cannot be resolved offline: {error}") from error


class Floor(Tool):
    key = "floor"
    makes = "a directory of wheels"
    note = "`uv pip compile`, then eight threads that download and hash the lock's URLs (`benchmarks/floor.py`)."

    def install(self) -> None:
        compile_installed(Path(sys.executable), HERE)
        self.version = "uv " + version_of([str(self.bench.uv), "--version"])

    def prepare(self, place: Place, workload: Workload) -> None:
        text = workload.pyproject(self.bench.target.python)
        (place.work / "pyproject.toml").write_text(text, encoding="utf-8")

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        del workload
        pyproject = place.work / "pyproject.toml"
        program = [
            sys.executable,
            str(HERE / "floor.py"),
            str(self.bench.uv),
            str(pyproject),
            str(place.out),
        ]
        return [[*program, "--python", self.bench.target.python]]

    def follow_ups(self, place: Place, workload: Workload) -> dict[str, list[list[str]]]:
        del workload
        pyproject = place.work / "pyproject.toml"
        again = place.root / "pylock.again.toml"
        return {
            "resolve, warm": [
                compile_command(str(self.bench.uv), pyproject, again, self.bench.target)
            ]
        }

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload
        return self.check_wheels(place, sorted((place.out / "wheels").glob("*.whl")), expected)

    @staticmethod
    def parts(sample: Sample) -> dict[str, float]:
        """Seconds of the two halves, as the floor printed them."""
        parts: dict[str, float] = json.loads(sample.output.splitlines()[-1])
        return parts


class Ours(Tool):
    key = "offline-bundle"
    makes = "a bundle: wheels, index, lock, manifest, launcher"
    note = "`build-offline-bundle SCRIPT -o OUT --no-uv`, nothing else."
    directory: Path = Path(sys.executable).parent

    def install(self) -> None:
        program = self.directory / "build-offline-bundle"
        if not program.exists():
            raise MissingToolError(
                f"there is no build-offline-bundle in {self.directory}: see --bin"
            )
        compile_installed(self.directory / "python", HERE.parent)
        self.version = version_of([str(self.directory / "offline-bundle"), "--version"])

    def prepare(self, place: Place, workload: Workload) -> None:
        shutil.copy(workload.script, place.work)

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        program = str(self.directory / "build-offline-bundle")
        return [[program, workload.script.name, "-o", str(place.out), "--no-uv"]]

    def follow_ups(self, place: Place, workload: Workload) -> dict[str, list[list[str]]]:
        return {"unchanged rebuild": self.commands(place, workload)}

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload
        for name in ("bundle.json", "run.py", "SHA256SUMS"):
            if not (place.out / name).is_file():
                raise RunError(f"there is no {name} in the bundle")
        return self.check_wheels(place, sorted((place.out / "wheels").glob("*.whl")), expected)


class OursPlain(Ours):
    key = "offline-bundle --no-bytecode"
    makes = "the same without bytecode"
    note = "`build-offline-bundle SCRIPT -o OUT --no-uv --no-bytecode`."

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        return [[*command, "--no-bytecode"] for command in super().commands(place, workload)]

    def follow_ups(self, place: Place, workload: Workload) -> dict[str, list[list[str]]]:
        del place, workload
        return {}


class Peer(Tool):
    """A tool from PyPI, in a virtual environment of its own that later runs use again."""

    package: str
    pinned: str
    programs: tuple[
        str, ...
    ] = ()  # asked for --help once, so that nothing is read for the first time

    @property
    def venv(self) -> Path:
        return PEERS / f"{self.package}-{self.pinned}-{self.bench.target.abi}"

    def program_directory(self) -> Path | None:
        return self.venv / "bin"

    def program(self, name: str) -> str:
        return str(self.venv / "bin" / name)

    def install(self) -> None:
        self.version = self.pinned
        if not (self.venv / "complete").exists():
            shutil.rmtree(self.venv, ignore_errors=True)
            uv = str(self.bench.uv)
            requirements = {f"{self.package}=={self.pinned}", f"pip=={PIP_VERSION}"}
            interpreter = ["--python", str(self.venv / "bin" / "python")]
            install = [
                uv,
                "pip",
                "install",
                *interpreter,
                "--compile-bytecode",
                *sorted(requirements),
            ]
            for command in (
                [uv, "venv", "--python", str(self.bench.python), str(self.venv)],
                install,
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise MissingToolError(f"cannot be installed: {done.stderr.strip()[-300:]}")
            (self.venv / "complete").touch()
        for name in self.programs:
            subprocess.run([self.program(name), "--help"], capture_output=True, check=False)


class PipDownload(Peer):
    key = "pip download"
    package = "pip"
    pinned = PIP_VERSION
    programs = ("pip",)
    makes = "a directory of wheels"
    note = "Every platform tag must be named, from the machine's downwards: each one matches itself only."

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        target = self.bench.target
        tags = [argument for tag in target.platform_tags for argument in ("--platform", tag)]
        return [
            [
                *[
                    self.program("python"),
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--dest",
                    str(place.out),
                ],
                *["--python-version", target.python, "--implementation", "cp", "--abi", target.abi],
                *[*tags, "--only-binary", ":all:", *workload.requirements],
            ]
        ]

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload
        return self.check_wheels(place, sorted(place.out.glob("*.whl")), expected)


class UvTarget(Tool):
    key = "uv pip install --target"
    makes = "an unpacked directory for one machine, no wheels"
    note = (
        "Not the same job: it unpacks for one machine and leaves no wheel to verify or to "
        "install from. "
        "Shown for scale."
    )

    def install(self) -> None:
        self.version = version_of([str(self.bench.uv), "--version"])

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        target = self.bench.target
        return [
            [
                *[str(self.bench.uv), "pip", "install", "--quiet", "--target", str(place.out)],
                *["--python-version", target.python, "--python-platform", target.uv_platform],
                *["--only-binary", ":all:", *workload.requirements],
            ]
        ]

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload
        infos = [path.name for path in place.out.glob("*.dist-info")]
        names = frozenset(str(canonicalize_name(info.split("-")[0])) for info in infos)
        if missing := expected.names - names:
            raise RunError(f"not there: {', '.join(sorted(missing))}")
        return f"{len(infos)} distributions"


class AirgapBundle(Peer):
    key = "airgap-bundle"
    package = "airgap-bundle"
    pinned = "0.1.1"
    programs = ("airgap-bundle",)
    makes = "one tar.zst with wheels, manifest, install.sh"
    note = (
        "Its lock is mended by hand: it resolves for manylinux_2_28 but downloads for "
        "manylinux_2_17 "
        "only, and so fails on today's contourpy. Here `uv pip compile` for manylinux_2_17 "
        "makes the lock "
        "(older versions; its time counts) and `[python] lockfile` names it. It also "
        "compresses the "
        "wheels again and reads its archive back."
    )
    target_libc = "manylinux_2_17"

    def prepare(self, place: Place, workload: Workload) -> None:
        (place.work / "requirements.in").write_text(
            "\n".join(workload.requirements), encoding="utf-8"
        )
        (place.work / "airgap.toml").write_text(
            '[bundle]\nname = "workload"\nversion = "0"\n'
            f'[platform]\ntargets = ["linux/amd64"]\npython = "{self.bench.target.python}"\n'
            '[python]\nlockfile = "requirements.lock"\n',
            encoding="utf-8",
        )

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        del workload
        target = self.bench.target
        archive = str(place.out / "workload.tar.zst")
        return [
            [
                *[
                    str(self.bench.uv),
                    "pip",
                    "compile",
                    "--quiet",
                    "requirements.in",
                    "-o",
                    "requirements.lock",
                ],
                *[
                    "--python-version",
                    target.python,
                    "--python-platform",
                    f"{target.machine}-{self.target_libc}",
                ],
                *["--only-binary", ":all:", "--generate-hashes", "--no-header"],
            ],
            [self.program("airgap-bundle"), "--quiet", "build", str(place.work), "--out", archive],
        ]

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload  # other versions than the floor's: its own lock says what must be there
        lock = (place.work / "requirements.lock").read_text(encoding="utf-8")
        names = frozenset(
            str(canonicalize_name(name)) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
        )
        unpack = (
            "import sys, tarfile, zstandard\n"
            "with open(sys.argv[1], 'rb') as file, zstandard.open(file) as plain:\n"
            "    tarfile.open(fileobj=plain, mode='r|').extractall(sys.argv[2], filter='data')\n"
        )
        unpacked = place.root / "unpacked"
        command = [
            self.program("python"),
            "-c",
            unpack,
            str(place.out / "workload.tar.zst"),
            str(unpacked),
        ]
        subprocess.run(command, check=True)
        return self.check_wheels(
            place, sorted(unpacked.rglob("*.whl")), Expected(names, expected.digests)
        )


class UvPack(Peer):
    key = "uv-pack"
    package = "uv-pack"
    pinned = "0.2.0"
    programs = ("uv-pack",)
    makes = "a directory of wheels, requirements, unpack scripts"
    note = (
        "It does not support scripts: the requirements are in a project, locked for Linux "
        "only. `--skip "
        "python`, and `UV_NO_SYNC=1`, or it would install the whole project first."
    )

    def prepare(self, place: Place, workload: Workload) -> None:
        linux = (
            "[tool.uv]\nenvironments = [\"sys_platform == 'linux' and platform_machine == '%s'\"]\n"
        )
        text = workload.pyproject(self.bench.target.python) + linux % self.bench.target.machine
        (place.work / "pyproject.toml").write_text(text, encoding="utf-8")

    def environment(self, place: Place) -> dict[str, str]:
        return {**super().environment(place), "UV_NO_SYNC": "1"}

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        del workload
        options = ["--skip", "python", "--pip-download", "--only-binary :all:"]
        return [[self.program("uv-pack"), *options, "--output-directory", str(place.out)]]

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload
        return self.check_wheels(place, sorted((place.out / "wheels").glob("*.whl")), expected)


class Morgan(Peer):
    key = "morgan"
    package = "morgan"
    pinned = "0.15.0"
    programs = ("morgan",)
    makes = "a mirror: wheels by project, metadata, server.py"
    note = (
        "It does not resolve, but takes the newest release that each requirement allows. "
        "The platform "
        "tag that its `generate_env` writes (`linux-x86_64`) matches no wheel: `manylinux.*` here. "
        "Wheels only."
    )

    def prepare(self, place: Place, workload: Workload) -> None:
        place.out.mkdir()
        command = [self.program("morgan"), "generate_env", "-e", "node"]
        described = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        tag = f"platform_tag = manylinux.*_{self.bench.target.machine}"
        described = re.sub(r"^platform_tag = .*$", tag, described, flags=re.MULTILINE)
        wanted = "".join(f"{requirement} =\n" for requirement in workload.requirements)
        (place.out / "morgan.ini").write_text(
            f"{described}[requirements]\n{wanted}", encoding="utf-8"
        )

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        del workload
        index = ["--index-url", self.bench.index] if self.bench.index else []
        program = [self.program("morgan"), "--index-path", str(place.out), *index]
        return [[*program, "--package-type-regex", "whl", "mirror"]]

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload
        return self.check_wheels(place, sorted(place.out.rglob("*.whl")), expected)


class Pex(Peer):
    key = "pex3 download"
    package = "pex"
    pinned = "2.105.2"
    programs = ("pex3",)
    pip = "26.2.1"
    makes = "a directory of wheels"
    note = (
        f"`--wheel --no-build --pip-version {pip}` (its default is 23.2), under the "
        f"target's Python. "
        "The pip that it keeps for itself in PEX_ROOT is made before the clock starts."
    )

    def prepare(self, place: Place, workload: Workload) -> None:
        del workload
        environment = self.environment(place)
        run(self.download(place.root / "first", ["six"]), environment, place.work)

    def commands(self, place: Place, workload: Workload) -> list[list[str]]:
        return [self.download(place.out, workload.requirements)]

    def download(self, directory: Path, requirements: Iterable[str]) -> list[str]:
        return [
            *[
                self.program("pex3"),
                "download",
                "--dest-dir",
                str(directory),
                "--pip-version",
                self.pip,
            ],
            *["--python", self.program("python"), "--wheel", "--no-build"],
            *(["--no-pypi", "--index", self.bench.index] if self.bench.index else []),
            *requirements,
        ]

    def check(self, place: Place, workload: Workload, expected: Expected) -> str:
        del workload
        return self.check_wheels(place, sorted(place.out.glob("*.whl")), expected)


ALL: tuple[type[Tool], ...] = (
    Floor,
    Ours,
    OursPlain,
    PipDownload,
    UvTarget,
    AirgapBundle,
    UvPack,
    Morgan,
    Pex,
)

NOT_RUN = {
    "pixi-pack": "it is not on PyPI, and what it packs are conda environments from conda channels.",
    "uv": "it has no download command and fills its cache only while installing.",
}


def check_names(wheels: Iterable[str], expected: frozenset[str]) -> frozenset[str]:
    """Names of distributions among wheel file names. Raises RunError when an expected one is
    missing.
    """
    names = frozenset(str(parse_wheel_filename(wheel)[0]) for wheel in wheels)
    if missing := expected - names:
        raise RunError(
            f"{len(missing)} of {len(expected)} not there: {', '.join(sorted(missing)[:8])}"
        )
    return names


def compile_installed(python: Path, directory: Path) -> None:
    """Compile an interpreter's packages and a source directory, as an installer would have."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    purelib = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(purelib, capture_output=True, text=True, check=True).stdout.strip()
    command = [str(python), "-m", "compileall", "-q", packages, str(directory)]
    subprocess.run(
        [*command, "-x", r"/(\.peers|\.git|demo)/"],
        env=environment,
        capture_output=True,
        check=False,
    )


def version_of(command: Sequence[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\w+)+", said)
    return found[0] if found else "?"


def find_uv() -> Path:
    """The uv beside this interpreter, or on PATH. Raises MissingToolError."""
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise MissingToolError("there is no uv beside this Python nor on PATH")
    return Path(found).resolve()


def find_python(version: str, uv: Path) -> Path:
    """A plain interpreter of a minor, not a shim. Raises MissingToolError."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = sorted(pyenv.glob(f"{version}.*/bin/python"))
    if candidates:
        return candidates[-1]
    command = [str(uv), "python", "find", "--no-project", version]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if not found:
        raise MissingToolError(f"there is no Python {version}: see --python")
    return Path(found).resolve()
