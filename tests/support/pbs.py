"""Simulated commands of PBS: qsub, qstat and qdel, as OpenPBS documents them.

qsub starts a process that runs the subjobs of an array on this machine; their states are files. No
server of PBS is involved: Debian has no package of one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROGRAMS = ("qsub", "qstat", "qdel")
_UNKNOWN = 153
_FINISHED = 35


class SimulatedPbs:
    """The commands in a folder, for PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "jobs"):
            (folder / name).mkdir(parents=True)
        for name in _PROGRAMS:
            program = folder / "bin" / name
            root = Path(__file__).parents[2]
            program.write_text(
                f"#!/bin/sh\nPYTHONPATH='{root}' exec '{sys.executable}' -m tests.support.pbs "
                f"'{folder}' {name} \"$@\"\n"
            )
            program.chmod(0o755)

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to be a user of this cluster."""
        return {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def _parse(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return flags with a value, and other words."""
    options: dict[str, list[str]] = {}
    while words and words[0].startswith("-"):
        flag = words.pop(0)
        with_value = flag in {"-S", "-N", "-j", "-o", "-l", "-v", "-J", "-W", "-q", "-A", "-F"}
        options.setdefault(flag, []).append(words.pop(0) if with_value else "")
    return options, words


def qsub(folder: Path, words: list[str]) -> int:
    """Write the job, and start the process that runs it."""
    options, (script,) = _parse(words)
    if options.get("-q", ["workq"]) != ["workq"]:
        sys.stderr.write("qsub: Unknown queue\n")
        return 170
    number = 1 + len(list((folder / "jobs").iterdir()))
    span, _, limit = options.get("-J", ["1-1"])[0].partition("%")
    first, last = map(int, span.split("-"))
    is_array = "-J" in options
    if is_array and first == last:
        sys.stderr.write("qsub: illegal -J value\n")
        return 1
    job_id = f"{number}[].sim" if is_array else f"{number}.sim"
    pairs = [pair.partition("=") for pair in ",".join(options["-v"]).split(",")]
    job = {
        "id": job_id,
        "name": options["-N"][0],
        "script": Path(script).read_text(),  # the server keeps a copy
        "first": first,
        "last": last,
        "limit": int(limit or 8),
        "after": [word.split(":")[1:] for word in options.get("-W", [])],
        "walltime": next(
            (int(w.split("=")[1]) for w in options["-l"] if w.startswith("walltime=")), None
        ),
        "variables": {name: value for name, _, value in pairs},
    }
    path = folder / "jobs" / str(number)
    path.mkdir()
    for index in range(first, last + 1):
        _write(path, index, job_state="Q")
    (path / "job.json").write_text(json.dumps(job))
    subprocess.Popen(
        [sys.executable, "-m", "tests.support.pbs", str(folder), "serve", str(path)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sys.stdout.write(f"{job_id}\n")
    return 0


def serve(folder: Path, words: list[str]) -> int:
    """Run the subjobs of a job."""
    path = Path(words[0])
    job = json.loads((path / "job.json").read_text())
    for ids in job["after"]:
        while not all(_is_over(folder / "jobs" / each.split("[")[0].split(".")[0]) for each in ids):
            time.sleep(0.05)
    (path / "script").write_text(job["script"])
    with ThreadPoolExecutor(job["limit"]) as threads:
        list(threads.map(lambda i: _run(path, job, i), range(job["first"], job["last"] + 1)))
    return 0


def _run(path: Path, job: dict[str, Any], index: int) -> None:
    if (path / "deleted").exists():
        _write(path, index, job_state="X", Exit_status=271)
        return
    name = job["id"].replace("[]", f"[{index}]")
    variables = {**os.environ, **job["variables"], "PBS_JOBID": name}
    if "[]" in job["id"]:
        variables |= {"PBS_ARRAY_INDEX": str(index), "PBS_ARRAY_ID": job["id"]}
    process = subprocess.Popen(
        ["sh", str(path / "script")], env=variables, cwd="/", start_new_session=True
    )
    _write(path, index, job_state="R", exec_host="sim/0", pid=process.pid)
    over: list[bool] = []

    def end() -> None:
        over.append(True)
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(job["walltime"] or 9999, end)
    timer.start()
    code = process.wait()
    timer.cancel()
    status = -29 if over else 256 - code if code < 0 else code
    _write(path, index, job_state="X", exec_host="sim/0", Exit_status=status)


def qstat(folder: Path, words: list[str]) -> int:
    """Print jobs: a line each, or with `-F json`."""
    options, ids = _parse(words)
    if "-B" in options:
        sys.stdout.write(json.dumps({"Server": {"sim": {"max_array_size": 10000}}}))
        return 0
    jobs = {}
    for path in sorted((folder / "jobs").iterdir()):
        job = json.loads((path / "job.json").read_text())
        if ids and ids != [job["id"]]:
            continue
        if _is_over(path) and "-x" not in options:
            if ids:
                sys.stderr.write(f"qstat: {job['id']} Job has finished, use -x or -H\n")
                return _FINISHED
            continue
        common = {"Job_Name": job["name"], "Variable_List": job["variables"]}
        if "[]" in job["id"]:
            jobs[job["id"]] = {**common, "job_state": "B"}
        if "-t" in options or "[]" not in job["id"]:
            for index in range(job["first"], job["last"] + 1):
                jobs[job["id"].replace("[]", f"[{index}]")] = {**common, **_read(path, index)}
    if ids and not jobs:
        sys.stderr.write(f"qstat: Unknown Job Id {ids[0]}\n")
        return _UNKNOWN
    _print_jobs(jobs, as_json="-F" in options)
    return 0


def _print_jobs(jobs: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"Jobs": jobs}))
        return
    rows = [("Job id", "Name", "User", "Time Use", "S", "Queue"), ("-" * 16, *"-----")]
    rows += [
        (name, job["Job_Name"][:16], "user", "00:00:00", job["job_state"], "workq")
        for name, job in jobs.items()
    ]
    for row in rows:
        sys.stdout.write("{:17} {:16} {:17} {:8} {} {}\n".format(*row))


def qdel(folder: Path, words: list[str]) -> int:
    """End the subjobs of a job."""
    path = folder / "jobs" / words[0].split("[")[0].split(".")[0]
    if _is_over(path):
        sys.stderr.write(f"qdel: Job has finished {words[0]}\n")
        return _FINISHED
    (path / "deleted").touch()
    for file in path.glob("*.state"):
        with suppress(ProcessLookupError, KeyError):
            os.killpg(json.loads(file.read_text())["pid"], signal.SIGTERM)
    return 0


def _write(path: Path, index: int, **state: object) -> None:
    file = path / f"{index}.state"
    staged = path / f"{index}.new"
    staged.write_text(json.dumps(state))
    staged.replace(file)


def _read(path: Path, index: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((path / f"{index}.state").read_text())
    state.pop("pid", None)
    return state


def _is_over(path: Path) -> bool:
    states = [json.loads(file.read_text())["job_state"] for file in path.glob("*.state")]
    return all(state == "X" for state in states)


if __name__ == "__main__":
    programs = {"qsub": qsub, "serve": serve, "qstat": qstat, "qdel": qdel}
    sys.exit(programs[sys.argv[2]](Path(sys.argv[1]), sys.argv[3:]))
