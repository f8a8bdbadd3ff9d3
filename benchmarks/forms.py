"""The forms of a bundle, side by side with plain `uv run --offline`: from a cold node to the first
line, and warm.

    python benchmarks/forms.py                     seven rounds
    python benchmarks/forms.py --write             also put table and chart into docs/benchmarks.md
    python benchmarks/forms.py --directory DIR     work there, with 200 MB for each run

An image is used in three ways: mounted, unpacked by unsquashfs, and unpacked without any program.
Every run of a round has a node of its own: empty caches, an empty home, the script in a folder of its own. What runs
there first is cold, what runs there again is warm. The bundle's files are in the page cache. Exit status: 0 when all
claims hold, 1 when one does not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import report
from chart import Bar, draw
from measure import Place, RunError, Sample, Summary, run, run_all
from report import Claim
from workload import HERE

from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
from offline_bundle.wheelhouse.runtime.launcher.images.mount import unmount
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

DEFAULT_PAGE = HERE.parent / "docs" / "benchmarks.md"
CHART = "benchmarks-forms.svg"
KEY = "forms"
PLAIN = "uv run --offline"
MOUNTED = "image, squashfuse"
COLD_PLOTS = {
    "launcher": 0.45,
    MOUNTED: 0.35,
    "image, unsquashfs": 0.45,
    "image, Python only": 0.45,
}
"""Way -> largest share of the baseline that a plot on a cold node may take."""
FORMATS = ("index", "cache", "venv", "image")
SCRIPTS = {"first line": "empty.py", "a plot": "S.py"}
NOTE = (
    "*First line*: a script that requires numpy and matplotlib and does nothing, so its whole time "
    "is the time to start it. *A plot*: workload S, which imports both and draws; if they are not "
    "compiled yet, the first import compiles them. `requires-python` is `==3.12.*`: with `==3.12` "
    "uv creates the environment again each time."
)

Times = dict[tuple[str, str, str], list[Sample]]
"""(way, script, "cold" or "warm") -> what the runs took."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument(
        "--directory", type=Path, help="where to work (default: the temporary directory)"
    )
    parser.add_argument(
        "--write", type=Path, nargs="?", const=DEFAULT_PAGE, metavar="PAGE", help="write into PAGE"
    )
    arguments = parser.parse_args()
    python = find_interpreter((3, 12))
    if python is None:
        sys.exit("error: the scripts are for Python 3.12, and there is none here")
    report_kind = ["stat", "-f", "-c", "%T", str(arguments.directory or tempfile.gettempdir())]
    file_system = subprocess.run(
        report_kind, check=True, capture_output=True, text=True
    ).stdout.strip()
    workspace = Path(tempfile.mkdtemp(prefix="bench-forms-", dir=arguments.directory))
    try:
        bundles = {form: build(workspace, form, python) for form in FORMATS}
        only = workspace / "only-unsquashfs"
        only.mkdir()
        (only / "unsquashfs").symlink_to(shutil.which("unsquashfs") or "")
        times = measure(workspace, bundles, python, arguments.rounds)
    except RunError as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    claims = claims_of(times)
    text = render(times, claims, arguments.rounds, file_system)
    print(text)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(report.replace_section(page, KEY, text), encoding="utf-8")
        arguments.write.with_name(CHART).write_text(chart(times), encoding="utf-8")
    return int(not all(claim.holds for claim in claims))


def build(workspace: Path, form: str, python: str) -> Path:
    """A bundle of both scripts in one form."""
    place = Place.make(workspace / f"build-{form}")
    scripts = [str(script(place.work, name)) for name in SCRIPTS.values()]
    bundle = workspace / f"bundle-{form}"
    command = [
        str(Path(sys.executable).parent / "build-offline-bundle"),
        *scripts,
        "-o",
        str(bundle),
    ]
    environment = place.environment([Path(find_uv()).parent, Path(python).parent], None)
    run([*command, "--format", form], environment, place.work)
    place.remove()
    return bundle


def script(folder: Path, name: str) -> Path:
    place = folder / name
    text = (HERE / "workloads" / name).read_text(encoding="utf-8")
    place.write_text(text.replace('"==3.12"', '"==3.12.*"'), encoding="utf-8")
    return place


def measure(workspace: Path, bundles: Mapping[str, Path], python: str, rounds: int) -> Times:
    """Everything *rounds* times in turns, after once for nothing."""
    times: Times = {}
    for number in range(rounds + 1):
        for way in ways(bundles, python, ""):
            for title, name in SCRIPTS.items():
                place = Place.make(Path(tempfile.mkdtemp(prefix="node-", dir=workspace)))
                commands, extra = ways(bundles, python, str(script(place.work, name)))[way]
                environment = place.environment([Path(find_uv()).parent], None)
                environment |= {"UV_PYTHON": python, "OFFLINE_BUNDLE_PYTHON": python, **extra}
                if way == "cache":
                    environment["UV_CACHE_DIR"] = str(place.cache / "of-the-bundle")
                    commands[0].append(environment["UV_CACHE_DIR"])
                os.sync()  # what earlier runs wrote must not slow this one down
                cold = run_all(commands, environment, place.work)
                cold = replace(cold, cpu=cold.cpu + daemon_cpu(place))
                warm = run(commands[-1], environment, place.work)
                unmount_all(place)  # and keep it: ext4 is slow to create files after a removal
                for state, sample in (("cold", cold), ("warm", warm)) if number else ():
                    times.setdefault((way, title, state), []).append(sample)
        print(f"round {number}/{rounds}", file=sys.stderr, flush=True)
    return times


def daemon_cpu(place: Place) -> float:
    """CPU seconds of the processes that go on in the background: squashfuse and its keeper."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(place.root).encode() in (folder / "cmdline").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:  # it ended
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def unmount_all(place: Place) -> None:
    """Unmount images, which the launcher does some seconds after the last job."""
    for home in (place.cache / "offline-bundle" / "environments").glob("*"):
        unmount(str(home))


def ways(
    bundles: Mapping[str, Path], python: str, path: str
) -> dict[str, tuple[list[list[str]], dict[str, str]]]:
    """What is compared: commands of a cold node, of which the last is also the warm one, and
    variables.
    """
    uv = find_uv()
    index, cache, venv, image = (bundles[form] for form in FORMATS)
    plain = ["run", "--offline", "--no-index", "--find-links", str(index / "wheels"), path]
    return {
        PLAIN: ([[uv, *plain]], {}),
        "index": ([[uv, "run", path]], {"UV_CONFIG_FILE": str(index / "uv.toml")}),
        "cache": ([[python, str(cache / "uv_cache.py")], [uv, "run", path]], {}),
        "launcher": ([[python, str(index / "run.py"), path]], {}),
        "venv": ([[python, str(venv / "run.py"), path]], {}),
        MOUNTED: ([[python, str(image / "run.py"), path]], {}),
        "image, unsquashfs": (
            [[python, str(image / "run.py"), path]],
            {"PATH": str(image.parent / "only-unsquashfs")},
        ),
        "image, Python only": ([[python, str(image / "run.py"), path]], {"PATH": "/nonexistent"}),
    }


def median(times: Times, way: str, title: str, state: str) -> float:
    return Summary.of(times[way, title, state]).median


def claims_of(times: Times) -> list[Claim]:
    claims = []
    for title in SCRIPTS:
        for state in ("cold", "warm"):
            share = (
                0.5 if (title, state) == ("first line", "cold") else 1.0
            )  # a plot's own work is the same for all
            measured = median(times, "venv", title, state) / median(times, PLAIN, title, state)
            text = f"{title}, {state}: venv takes at most {share} of `{PLAIN}`"
            claims.append(Claim(text, f"{measured:.2f}", measured <= share))
    for way, share in COLD_PLOTS.items():
        cold = median(times, way, "a plot", "cold")
        measured = cold / median(times, PLAIN, "a plot", "cold")
        text = f"a plot, cold: {way} takes at most {share} of `{PLAIN}`"
        claims.append(Claim(text, f"{measured:.2f}", measured <= share))
        measured = cold / median(times, way, "a plot", "warm")
        text = f"a plot: {way} takes cold at most 1.8 of warm"
        claims.append(Claim(text, f"{measured:.2f}", measured <= 1.8))
    return claims


def render(times: Times, claims: list[Claim], rounds: int, file_system: str) -> str:
    heading = (
        f"{report.today()}, rounds: {rounds}, on {file_system}. Machine: {report.machine()}. "
        f"uv {uv_version_here()}. Load average at the end: {os.getloadavg()[0]:.0f}; where that is "
        "above the number of cores, other programs made the times longer: compare CPU seconds."
    )
    columns = [(title, state) for title in SCRIPTS for state in ("cold", "warm")]
    names = [f"{title}, {state}" for title, state in columns]
    lines = [f"| way | {' | '.join(names)} | CPU of a plot, cold |"]
    lines.append("|---|" + "--:|" * (len(columns) + 1))
    for way in dict.fromkeys(way for way, _, _ in times):
        cells = (Summary.of(times[way, *column]) for column in columns)
        texts = [f"**{one.median:.2f}** ({one.low:.2f} to {one.high:.2f})" for one in cells]
        cpu = Summary.of(times[way, "a plot", "cold"]).cpu
        lines.append(f"| {way} | {' | '.join(texts)} | {cpu:.2f} |")
    table = "\n".join(lines)
    picture = f"![Medians, with whiskers from the fastest to the slowest run]({CHART})"
    rows = [
        f"| {claim.text} | {claim.measured} | {'yes' if claim.holds else '**no**'} |"
        for claim in claims
    ]
    verdict = "| claim | measured | holds |\n|---|---|---|\n" + "\n".join(rows)
    return "\n\n".join(
        [NOTE, heading, f"Seconds, median (fastest to slowest):\n\n{table}", picture, verdict]
    )


def chart(times: Times) -> str:
    """Cold first lines, then warm ones."""
    bars = [
        Bar(f"{way}, {state}", Summary.of(samples), "bar" if way == PLAIN else "ours")
        for state in ("cold", "warm")
        for (way, title, when), samples in times.items()
        if (title, when) == ("first line", state)
    ]
    reference = median(times, PLAIN, "first line", "cold")
    return draw(
        "To the first line of a script: numpy and matplotlib", bars, reference, "cold uv run"
    )


if __name__ == "__main__":
    sys.exit(main())
