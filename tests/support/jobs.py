"""Jobs for an embedded HPS without a bundle: an execution script that uses this Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offline_bundle.runner.engines.hps.connection.server import Server
    from offline_bundle.runner.engines.hps.submit import Submission
    from offline_bundle.runner.hps_server import EmbeddedHps

CLIENT_LEAKS = "ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"
"""For `filterwarnings`: what the real client leaves behind at every upload."""

EXEC_SCRIPT = """
import json, sys
from ansys.rep.evaluator.task_manager import ApplicationExecution

class Execution(ApplicationExecution):
    def execute(self):
        script = next(file for file in self.context.input_files if file["name"] == "script")
        with open("input_parameters.json", "w") as stream:
            json.dump(dict(self.context.parameter_values), stream)
        command = [sys.executable, script["path"]]
        self.run_and_capture_output(command, shell=False, env=self.context.environment)
        try:
            with open("output_parameters.json") as stream:
                self.context.parameter_values.update(json.load(stream))
        except FileNotFoundError:
            pass
"""

PLOT = """
import json, struct, zlib
values = json.load(open("input_parameters.json"))
n = values.get("n", 1)
if n == 2:
    raise SystemExit("two is not a number of mine")

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

rows = b"".join(
    b"\\0" + bytes((x * n, y * 2, 120)[c] % 256 for x in range(64) for c in range(3))
    for y in range(48)
)
head = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
open("plot.png", "wb").write(
    b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    + chunk(b"IEND", b"")
)
json.dump({"twice": 2.0 * n}, open("output_parameters.json", "w"))
print("plotted", n)
"""
"""Leaves plot.png; fails where n is 2."""


def server_of(hps: EmbeddedHps, **changes: Any) -> Server:  # noqa: ANN401
    from offline_bundle.runner.engines.hps.connection.server import Server

    given: dict[str, Any] = {
        "url": hps.url,
        "username": hps.username,
        "password": hps.password,
        "ca_file": hps.ca_file,
    }
    return Server(**(given | changes))


def write_script(
    folder: Path, body: str = PLOT, name: str = "eval.py", dependencies: str = ""
) -> Path:
    path = folder / name
    path.write_text(f"# /// script\n# dependencies = [{dependencies}]\n# ///\n{body}")
    return path


def make_submission(folder: Path, body: str = PLOT, **changes: Any) -> Submission:  # noqa: ANN401
    """Three jobs that plot, or what *changes* makes of them."""
    from offline_bundle.runner.engines.hps.submit import Submission
    from offline_bundle.runner.values import plan_values

    exec_script = folder / "exec_script.py"
    exec_script.write_text(EXEC_SCRIPT)
    given: dict[str, Any] = {
        "script": write_script(folder, body),
        "exec_script": exec_script,
        "values": plan_values([], None, jobs=3),
        "outputs": ("plot.png",),
    }
    return Submission(**(given | changes))


def embedded(folder: Path, **options: Any) -> Iterator[EmbeddedHps]:  # noqa: ANN401
    """For fixtures: `yield from embedded(…)`."""
    from offline_bundle.runner.hps_server import EmbeddedHps

    with EmbeddedHps(data=folder, slots=2, **options) as hps:
        yield hps
