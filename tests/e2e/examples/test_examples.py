"""Every example does what its README says: its commands, word for word, in a copy of its folder."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.support.pages import shell_blocks, type_in

EXAMPLES = Path(__file__).parents[3] / "examples"

pytestmark = pytest.mark.registry


def follow_readme(name: str, place: Path) -> Path:
    """Type the commands of an example's README; returns where that was done."""
    folder = place / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = shell_blocks(folder / "README.md")
    assert any("build-offline-bundle" in block for block in blocks)
    done = type_in(blocks, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_a_parameter_study_has_a_row_for_each_job(tmp_path: Path) -> None:
    folder = follow_readme("parameter_study", tmp_path)
    with (folder / "values.csv").open() as stream:
        cases = [
            {name: float(text) for name, text in case.items()} for case in csv.DictReader(stream)
        ]
    with (folder / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(cases)
    for case, row in zip(cases, rows, strict=True):
        exact = case["load"] * case["length"] ** 3 / (3 * 210e9 * 0.05 * case["height"] ** 3 / 12)
        assert float(row["deflection"]) == pytest.approx(exact, rel=1e-3)


@pytest.mark.slow
def test_a_pyansys_script_computes_with_the_network_cut(tmp_path: Path) -> None:
    folder = follow_readme("pyansys", tmp_path)
    result = json.loads((folder / "pipe_flow.json").read_text())
    assert result["reynolds"] == pytest.approx(
        998.2 * 4.5 * 0.3048 * 2 * 0.0254 / 1.002e-3, rel=1e-4
    )
    assert result["loss_kPa"] == pytest.approx(result["loss_psi"] * 6.894757, rel=1e-3)


def test_a_private_package_comes_from_its_own_index(tmp_path: Path) -> None:
    folder = follow_readme("private_package", tmp_path)
    assert "bar 40 x 60" in (folder / "beam.txt").read_text()
    files = json.loads((folder / "bundle" / "bundle.json").read_text())["files"]
    sources = {
        file["name"]: file["source"] for path, file in files.items() if path.endswith(".whl")
    }
    assert "url" not in sources["example-site-sections"]
    assert sources["tabulate"]["index"].startswith("https://")


@pytest.mark.slow
def test_ten_plots_come_home(tmp_path: Path) -> None:
    folder = follow_readme("python_uv", tmp_path)
    assert len(list(folder.glob("plots/*/plot.png"))) == 10
    assert (folder / "plots" / "index.html").is_file()
