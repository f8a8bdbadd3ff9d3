"""Archives against tar, verifying against sha256sum; side by side.

    python benchmarks/archive.py                              three made-up bundles, five rounds
    python benchmarks/archive.py --bundle DIR --rounds 11     a bundle of yours
    python benchmarks/archive.py --write                      also put the tables into docs/benchmarks.md

Everything is done in turns, A B C … A B C …, from files that are in the page cache. Nothing is left to be written to
the disk when a clock starts, and what each command leaves to be written is measured after it, apart. Exit status:
0 when all claims hold, 1 when one does not.
"""

import argparse
import hashlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest.mock import patch

import report
from chart import Bar, draw
from measure import Place, Sample, Summary, run
from report import Claim

from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest, read_manifest
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.store.writer import BundleWriter

TAR_SHARE = 0.8  # of tar's speed, at the least
SMALL_SHARE = 0.5  # of the speed of tar, followed by a digest of all
HASH_SHARE = 1.5  # of the speed of `sha256sum -c`
DEFAULT_PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
KEY = "archive"
_PIECE = 1 << 20
PACK_BY_HAND, UNPACK_BY_HAND = "tar -c, then openssl dgst", "tar -x, then openssl dgst"
COMMIT, UNFLUSHED = "commit of a build", "the same, not flushed"
NOTE = (
    "`tar` copies without checks. `pack` also reads back and hashes every byte of the archive "
    "before it renames it, and `unpack` hashes every byte that it writes. Times are of whole "
    "commands, including the interpreter's start. No command waits for the disk: the time of a "
    "flush after it is a column of its own, and the last column includes it, for the archive and "
    "for tar's. `tar`, followed by OpenSSL's sha256 of its output (one core, with the processor's "
    "sha256 instructions, which `sha256sum` here does not use), is the manual alternative. A commit "
    "moves fetched files into a bundle; it flushes them, so that a power cut leaves no empty file."
)


@dataclass(frozen=True)
class Case:
    """A bundle, and what to say about it."""

    title: str
    bundle: Path
    is_small: bool = False
    """Of many small files: against tar followed by a digest of all."""


@dataclass
class Times:
    """What one command took, in all rounds."""

    samples: list[Sample] = field(default_factory=list)
    flushes: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return Summary.of(self.samples).median

    @property
    def median_on_disk(self) -> float:
        """Until all that it wrote is on the disk, too."""
        return median(
            sample.wall + flush for sample, flush in zip(self.samples, self.flushes, strict=True)
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bundle", type=Path, help="a bundle to measure with, in place of made-up ones"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument(
        "--bin", type=Path, default=Path(sys.executable).parent, help="where our programs are"
    )
    parser.add_argument(
        "--directory", type=Path, help="where to work (default: the temporary directory)"
    )
    parser.add_argument(
        "--write", type=Path, nargs="?", const=DEFAULT_PAGE, metavar="PAGE", help="write into PAGE"
    )
    arguments = parser.parse_args()
    workspace = Path(tempfile.mkdtemp(prefix="bench-archive-", dir=arguments.directory))
    blocks, claims, picture = [heading(arguments.rounds)], [], ""
    try:
        for case in [given(arguments.bundle)] if arguments.bundle else made_up(workspace):
            times = measure(case, workspace, arguments.bin, arguments.rounds)
            blocks.append(f"**{case.title}**\n\n{table(times)}")
            if case.is_small:
                claims += claims_of_small(case, times)
            else:  # the last one, the largest, is drawn
                claims += claims_of(case, times)
                picture = chart(case, times)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    lines = [
        f"| {claim.text} | {claim.measured} | {'yes' if claim.holds else '**no**'} |"
        for claim in claims
    ]
    text = "\n\n".join(
        [*blocks, "| claim | measured | holds |\n|---|---|---|\n" + "\n".join(lines)]
    )
    print(text)
    if arguments.write:
        report.publish(arguments.write, KEY, text, picture)
    return int(not all(claim.holds for claim in claims))


def heading(rounds: int) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{NOTE}\n\n{report.today()}, rounds: {rounds}. Machine: {report.machine()}. Python {python}."


def given(bundle: Path) -> Case:
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    return Case(f"{bundle.name}, {size / 1e6:.0f} MB", bundle.resolve())


def made_up(workspace: Path) -> Iterator[Case]:
    """Bundles of noise; sizes fall from wheel to wheel as they do in workload M."""
    falling = [round(60_000_000 / (1 + number) ** 1.02) for number in range(136)]
    yield Case(
        f"136 wheels, {sum(falling) / 1e6:.0f} MB",
        made(workspace / "medium", falling),
    )
    large = [600_000_000, 200_000_000, *falling]
    yield Case(f"138 wheels, {sum(large) / 1e6:.0f} MB", made(workspace / "large", large))
    small = made(workspace / "small", [20_000] * 1000)
    yield Case("1,000 wheels of 20 kB", small, is_small=True)


def made(folder: Path, sizes: Iterable[int]) -> Path:
    """Commit a bundle of wheels that have *sizes* and are nothing but noise."""
    noise = random.Random(0)
    contents: dict[str, bytes | Path] = {}
    files: dict[str, BundledFile] = {}
    staging = folder.with_name(f"{folder.name}-files")
    staging.mkdir()
    for number, size in enumerate(sizes):
        path = f"wheels/package{number}-1.0-py3-none-any.whl"
        place = staging / str(number)
        with place.open("wb") as file:
            for start in range(0, size, _PIECE):
                file.write(noise.randbytes(min(_PIECE, size - start)))
        with place.open("rb") as file:
            files[path] = BundledFile(
                sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=size
            )
        contents[path] = place
    with BundleWriter(folder) as writer:
        writer.commit(manifest_of(files), contents)
    shutil.rmtree(staging)
    return folder


def measure(case: Case, workspace: Path, programs: Path, rounds: int) -> dict[str, Times]:
    """Run everything *rounds* times, after once for nothing, each time into new folders."""
    times: dict[str, Times] = {}
    for number in range(rounds + 1):
        place = Place.make(workspace / f"{case.bundle.name}-{number}")
        for name in ("plain", "by-hand"):
            (place.work / name).mkdir()
        environment = place.environment([], None)
        for name, (command, directory) in commands(case.bundle, place.work, programs).items():
            os.sync()
            sample = run(command, environment, directory)
            flush = measured(os.sync)
            if number:
                times.setdefault(name, Times()).samples.append(sample)
                times[name].flushes.append(flush)
        for name in (COMMIT, UNFLUSHED):
            sample = commit(case.bundle, place.work / name, is_flushed=name == COMMIT)
            flush = measured(os.sync)
            if number:
                times.setdefault(name, Times()).samples.append(sample)
                times[name].flushes.append(flush)
        # Small files are left until the end: ext4 is slow to make files where others were removed a
        # moment ago.
        if sum(path.stat().st_size for path in place.work.glob("*.tar")) > 200_000_000:
            place.remove()
        walls = ", ".join(f"{name} {each.samples[-1].wall:.3f}" for name, each in times.items())
        print(f"{case.title} {number}/{rounds}: {walls}", file=sys.stderr, flush=True)
    return times


def commit(bundle: Path, folder: Path, *, is_flushed: bool) -> Sample:
    """Commit copies of all wheels as a new bundle, in this process."""
    wheels = {
        path: file
        for path, file in read_manifest(bundle).files.items()
        if path.startswith("wheels")
    }
    contents: dict[str, bytes | Path] = {}
    files = folder.with_name(f"{folder.name}-files")
    files.mkdir()
    for number, path in enumerate(wheels):
        contents[path] = shutil.copyfile(bundle / path, files / str(number))
    with ExitStack() as stack:
        if not is_flushed:
            stack.enter_context(patch.object(SafeFolder, "flush"))
            stack.enter_context(patch.object(SafeFolder, "flush_file_system"))
            stack.enter_context(patch("os.fsync"))
        cpu, start = time.process_time(), time.perf_counter()
        with BundleWriter(folder) as writer:
            writer.commit(manifest_of(wheels), contents)
        return Sample(time.perf_counter() - start, time.process_time() - cpu)


def manifest_of(wheels: Mapping[str, BundledFile]) -> Manifest:
    files = {"SHA256SUMS": BundledFile(sha256=None, size=None), **wheels}
    return Manifest(created_by="x 0", timestamp="2026-01-01T00:00:00Z", files=files)


def commands(bundle: Path, work: Path, programs: Path) -> dict[str, tuple[list[str], Path]]:
    """What is measured, and where it runs: later ones use what earlier ones made."""
    ours, archive = str(programs / "offline-bundle"), work / "ours.tar"
    pack_by_hand = (
        f"tar -cf {work}/hand.tar --exclude=./.writer . && openssl dgst -sha256 {work}/hand.tar"
    )
    unpack_by_hand = f"tar -xf {archive} && find . -type f -exec openssl dgst -sha256 {{}} +"
    return {
        "tar -c": (["tar", "-cf", str(work / "tar.tar"), "--exclude=./.writer", "."], bundle),
        "pack": ([ours, "pack", str(bundle), "-o", str(archive)], work),
        PACK_BY_HAND: (["sh", "-c", pack_by_hand], bundle),
        "tar -x": (["tar", "-xf", str(archive)], work / "plain"),
        "unpack": ([ours, "unpack", str(archive), "-o", str(work / "unpacked")], work),
        "unpack.py": (
            [sys.executable, f"{archive}.unpack.py", str(archive), "-o", str(work / "alone")],
            work,
        ),
        UNPACK_BY_HAND: (["sh", "-c", unpack_by_hand], work / "by-hand"),
        "sha256sum -c": (["sha256sum", "-c", "--quiet", "SHA256SUMS"], bundle),
        "verify": ([ours, "verify", str(bundle)], work),
        "verify, of the archive": ([ours, "verify", str(archive)], work),
    }


AGAINST = {
    "pack": "tar -c",
    "unpack": "tar -x",
    "unpack.py": "tar -x",
    "verify": "sha256sum -c",
    COMMIT: UNFLUSHED,
}


WRITES = ("pack", "unpack", "unpack.py")


def measured(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def speed(times: Mapping[str, Times], name: str) -> float:
    """Of what it stands against: 1 is as fast, 2 twice as fast."""
    return times[AGAINST[name]].median / times[name].median


def speed_on_disk(times: Mapping[str, Times], name: str) -> float:
    """The same until all is on the disk."""
    return times[AGAINST[name]].median_on_disk / times[name].median_on_disk


def table(times: Mapping[str, Times]) -> str:
    lines = []
    for name, one in times.items():
        summary = Summary.of(one.samples)
        share = f"{speed(times, name):.2f} of {AGAINST[name]}" if name in AGAINST else ""
        on_disk = f"{speed_on_disk(times, name):.2f}" if name in WRITES else ""
        lines.append(
            f"| {name} | {summary.low:.3f} | **{summary.median:.3f}** | {summary.high:.3f} "
            f"| {summary.cpu:.3f} "
            f"| {share} | {median(one.flushes):.3f} | {on_disk} |"
        )
    names = "| what | min | median | max | CPU | speed | flush after it | speed with it |"
    head = f"{names}\n|---|--:|--:|--:|--:|---|--:|--:|"
    return "\n".join([head, *lines])


def chart(case: Case, times: Mapping[str, Times]) -> str:
    times = {name: each for name, each in times.items() if name not in (COMMIT, UNFLUSHED)}
    peers = {*AGAINST.values(), PACK_BY_HAND, UNPACK_BY_HAND}
    bars = [
        Bar(name, Summary.of(each.samples), "floor" if name in peers else "ours")
        for name, each in times.items()
    ]
    return draw(case.title, bars, None)


def claims_of(case: Case, times: Mapping[str, Times]) -> list[Claim]:
    limits = {"pack": TAR_SHARE, "unpack": TAR_SHARE, "verify": HASH_SHARE}
    speeds = [(f"{name} at", limit, name, speed(times, name)) for name, limit in limits.items()]
    speeds += [
        (f"{name}, flush included, at", TAR_SHARE, name, speed_on_disk(times, name))
        for name in WRITES
    ]
    return [
        Claim(
            f"{case.title}: {what} no less than {limit} of the speed of `{AGAINST[name]}`",
            f"{it:.2f}",
            it >= limit,
        )
        for what, limit, name, it in speeds
    ]


def claims_of_small(case: Case, times: Mapping[str, Times]) -> list[Claim]:
    by_hand = {"pack": PACK_BY_HAND, "unpack": UNPACK_BY_HAND, "unpack.py": UNPACK_BY_HAND}
    speeds = {name: times[hand].median / times[name].median for name, hand in by_hand.items()}
    return [
        Claim(
            f"{case.title}: {name} at no less than {SMALL_SHARE} of the speed of `{by_hand[name]}`",
            f"{it:.2f}",
            it >= SMALL_SHARE,
        )
        for name, it in speeds.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
