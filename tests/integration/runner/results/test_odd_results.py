"""Odd output of one job never ends the results of the others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from offline_bundle.runner.engines.local.engine import LocalEngine
from offline_bundle.runner.follow import watch
from offline_bundle.runner.request import Request
from offline_bundle.runner.values import plan_values
from tests.support.bundles import BundleScript, make_bundle

if TYPE_CHECKING:
    from pathlib import Path

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
"""
KINDS = ["remove folder", "file name", "surrogate", "nested", "digits", "folder as values"]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_results_stand_alone(
    kind: str, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own_home
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(body=BODY)})
    table = tmp_path / "values.csv"
    table.write_text(f"what\n{kind}\nplain\nplain\n")
    values = plan_values([], table, jobs=0)
    script = bundle / "scripts" / "eval.py"
    engine = LocalEngine({"parallel": 1})
    request = Request(script=script, bundle=str(bundle), values=values)
    project = engine.submit(request, tmp_path / "out")
    try:
        counts = watch(engine, project)
        results = engine.results(project, tmp_path / "out")
    finally:
        engine.close()
    assert counts.by_state == {"done": 3}
    assert [job.state for job in results.jobs] == ["done"] * 3
    page = results.page.read_text(encoding="utf-8")
    assert all(f"job-000{number}" in page for number in (1, 2, 3))
    assert os.listdir(tmp_path / "out" / "job-0002")  # noqa: PTH208 - names as bytes are odd
