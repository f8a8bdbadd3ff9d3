"""One measured run: its own empty caches and directories, a clean environment, a wall clock."""

import hashlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FREE_SPACE_NEEDED = 6 << 30  # bytes
TIME_LIMIT = 1800  # seconds
# What would let the caller's configuration into a measured run. Certificates and proxies stay.
FOREIGN = re.compile(
    r"^(UV_|PIP_|PYTHON|PYENV_|PEX_|XDG_|CONDA|OFFLINE_BUNDLE_|VIRTUAL_ENV$|SOURCE_DATE_EPOCH$)"
)
KEPT = {"PIP_CERT", "PIP_PROXY", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"}


class RunError(Exception):
    """A run that failed, or did not make what it was asked for: its time counts for nothing."""


@dataclass(frozen=True)
class Sample:
    """What one run took."""

    wall: float  # seconds
    cpu: float  # seconds of user and system time of all its processes
    output: str = field(default="", repr=False)


@dataclass(frozen=True)
class Summary:
    """Wall times over all runs of one thing, in seconds."""

    low: float
    median: float
    high: float
    cpu: float  # median

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Summary":
        walls = [sample.wall for sample in samples]
        cpu = statistics.median(sample.cpu for sample in samples)
        return cls(min(walls), statistics.median(walls), max(walls), cpu)

    @classmethod
    def of_walls(cls, walls: Sequence[float]) -> "Summary":
        """Of wall times alone; CPU is not known."""
        return cls(min(walls), statistics.median(walls), max(walls), 0.0)


@dataclass(frozen=True)
class Place:
    """The directories of one run, all new and all deleted afterwards."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> "Place":
        """Make an empty place. Raises RunError when the disk is nearly full."""
        place = cls(root)
        for directory in (place.work, place.home, place.temporary):
            directory.mkdir(parents=True)
        free = shutil.disk_usage(root).free
        if free < FREE_SPACE_NEEDED:
            raise RunError(f"only {free >> 20} MiB are free where the benchmark works")
        return place

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def out(self) -> Path:
        """Not made beforehand: tools make their own."""
        return self.root / "out"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    def environment(self, path: Iterable[Path], index: str | None) -> dict[str, str]:
        """What a run sees: nothing of the caller's configuration, empty caches, programs of `path`
        first.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or not FOREIGN.match(name)
        }
        programs = os.pathsep.join([*map(str, path), "/usr/local/bin", "/usr/bin", "/bin"])
        return {
            **kept,
            **({"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index} if index else {}),
            "PATH": programs,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.cache / "xdg"),
            "OFFLINE_BUNDLE_CACHE": str(self.cache / "offline-bundle"),
            "UV_CACHE_DIR": str(self.cache / "uv"),
            "UV_PYTHON_DOWNLOADS": "never",
            "PIP_CACHE_DIR": str(self.cache / "pip"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PEX_ROOT": str(self.cache / "pex"),
        }

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def run(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Sample:
    """Run a command to its end. Raises RunError with its last lines when it fails or takes half an
    hour.
    """
    log = Path(environment["TMPDIR"]) / "benchmark-output.txt"
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(TIME_LIMIT, os.killpg, [process.pid, signal.SIGKILL])
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    if process.returncode != 0:
        raise RunError(
            f"`{Path(command[0]).name}` ended with {process.returncode}: {last_words(text)}"
        )
    return Sample(wall, usage.ru_utime + usage.ru_stime, text)


def run_all(
    commands: Iterable[Sequence[str]], environment: Mapping[str, str], directory: Path
) -> Sample:
    """Run commands one after the other; their times add up."""
    samples = [run(command, environment, directory) for command in commands]
    wall = sum(sample.wall for sample in samples)
    return Sample(
        wall, sum(sample.cpu for sample in samples), "".join(sample.output for sample in samples)
    )


def last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return redacted(" / ".join(lines[-4:]))[-600:] or "without a word"


def redacted(text: str) -> str:
    """Text without hosts, credentials and absolute paths of this machine."""
    text = re.sub(r"(\w+://)[^\s/'\"]+", r"\1…", text)
    return re.sub(r"(?<![\w…:/])/(?:[\w.@+-]+/)+", "…/", text)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
