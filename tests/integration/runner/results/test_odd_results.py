"""Odd output of one job never ends the results of the others."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from uv import find_uv_bin

from offline_bundle.runner.engines.local.engine import LocalEngine
from offline_bundle.runner.follow import watch
from offline_bundle.runner.request import Request
from offline_bundle.runner.values import plan_values
from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

BODY = r"""
import json, os, shutil
what = json.load(open("input_parameters.json"))["what"]
if what == "remove folder":
    shutil.rmtree(os.getcwd())
if what == "file name":
    open(b"caf\xe9.png", "w").close()
if what == "surrogate":
    open("output_parameters.json", "w").write('{"name": "\\ud800"}')
if what == "nested":
    open("output_parameters.json", "w").write("[" * 100_000)
if what == "digits":
    open("output_parameters.json", "w").write('{"n": ' + "9" * 10_000 + "}")
if what == "folder as values":
    os.mkdir("output_parameters.json")
if what == "fifos":
    for name in ("output_parameters.json", "console_output.txt", "plot.png"):
        os.path.exists(name) and os.unlink(name)
        os.mkfifo(name)
if what == "link loop":
    os.symlink("plot.png", "plot.png")
if what == "deep":
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
if what == "record folder":
    os.mkdir(".job.json")
if what == "exit code":
    os.unlink("console_output.txt")
    os.mkfifo("console_output.txt")
    raise SystemExit(1)
if what == "device":
    os.symlink("/dev/zero", "output_parameters.json")
if what == "sparse":
    os.truncate(os.open("output_parameters.json", os.O_CREAT | os.O_WRONLY), 10 << 30)
if what == "numbers":
    open("output_parameters.json", "w").write('{"n": NaN, "m": -1e999, "e": ' + "9" * 4000 + "}")
"""
KINDS = ["plain", "remove folder", "file name", "surrogate", "nested", "digits", "folder as values"]
KINDS += ["link loop", "deep", "record folder", "exit code", "fifos", "device", "sparse", "numbers"]
KINDS += ["plain"]
STATES = {"record folder": "lost", "exit code": "failed"}


def test_odd_results_do_not_end_those_of_other_jobs(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own_home
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(body=BODY)})
    table = tmp_path / "values.csv"
    table.write_text("\n".join(["what", *KINDS, ""]))
    values = plan_values([], table, jobs=0)
    script = bundle / "scripts" / "eval.py"
    engine = LocalEngine({"parallel": 2})
    request = Request(script=script, bundle=str(bundle), values=values)
    project = engine.submit(request, tmp_path / "out")
    try:
        counts = watch(engine, project)
        results = engine.results(project, tmp_path / "out")
    finally:
        engine.close()
        for folder in (tmp_path / "out").glob("job-*/d"):  # pytest removes no folders that deep
            subprocess.run(["rm", "-rf", folder], check=True)
    states = [STATES.get(kind, "done") for kind in KINDS]
    assert dict(zip(KINDS, [job.state for job in results.jobs], strict=True)) == dict(
        zip(KINDS, states, strict=True)
    )
    assert counts.by_state == Counter(states)
    page = results.page.read_text(encoding="utf-8")
    assert all(job.name in page for job in results.jobs)
    assert os.listdir(tmp_path / "out" / results.jobs[0].name)  # noqa: PTH208 - names as bytes are odd
