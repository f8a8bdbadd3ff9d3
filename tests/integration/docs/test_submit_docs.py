"""What docs/how-to/submit.md and docs/how-to/hps-administrator.md show is run as it stands there."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uv

from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.submit import submit_command
from offline_bundle.runner.hps_server import EmbeddedHps
from tests.support.bundles import BundleScript, make_bundle
from tests.support.jobs import CLIENT_LEAKS

if TYPE_CHECKING:
    import click

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)


def shown(page: str, name: str) -> str:
    """The code block under `<!-- example:NAME -->`."""
    found = re.search(
        rf"<!-- example:{re.escape(name)} -->\n```\w*\n(.*?)```",
        (ROOT / "docs" / page).read_text(),
        re.DOTALL,
    )
    assert found
    return found[1]


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


def test_values_as_the_page_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("values.csv", "beam.py"):
        Path(name).write_text(shown("how-to/submit.md", name))
    make_bundle(Path("bundle"), {"beam": BundleScript(dependencies=(), requires_python=">=3.9")})
    words = shlex.split(shown("how-to/submit.md", "command").replace("\\\n", " "))
    assert words[:2] == ["offline-bundle", "submit"]
    code = run(submit_command, *words[2:], "--json")
    outcome = json.loads(capsys.readouterr().out)
    assert code == 0, outcome["failed"]
    assert outcome["jobs"] == {"total": 3, "states": {"done": 3}}
    reports = [
        ast.literal_eval(path.read_text())
        for path in sorted(Path("results").glob("job-*/report.txt"))
    ]
    assert reports[0] == {"thickness": 0.5, "material": "steel", "load": 12}
    assert reports[2] == {"thickness": 1.0, "material": "copper", "load": 12}
    assert Path("results/job-0001/console_output.txt").is_file()
    assert "deflection" in Path("results/index.html").read_text()


def test_a_registration_as_the_administrators_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Users then name no bundle. The page's paths are replaced by those of this test, nothing else."""
    monkeypatch.chdir(tmp_path)
    body = "import alpha\nopen('plot.txt', 'w').write('plotted')\n"
    bundle = make_bundle(tmp_path / "my bundle", {"eval": BundleScript(body=body)})
    text = shown("how-to/hps-administrator.md", "registration").replace(
        "/shared/uvcache", str(bundle)
    )
    registered = json.loads(text.replace("/opt/uv/uv", uv.find_uv_bin()).replace("/opt/uv", "/opt"))
    registered["environment"]["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    software = {
        registered["name"]: {key: value for key, value in registered.items() if key != "name"}
    }
    script = shutil.copy(bundle / "scripts" / "eval.py", tmp_path)
    with EmbeddedHps(tmp_path / "hps", software=software) as hps:
        monkeypatch.setenv("HPS_PASSWORD", hps.password)
        code = run(
            submit_command,
            script,
            "-U",
            hps.url,
            "-j",
            2,
            "--output",
            "plot.txt",
            "--download",
            "results",
        )
    assert code == 0, capsys.readouterr().err
    assert len(list(Path("results").glob("job-*/plot.txt"))) == 2


def test_registering_as_the_administrators_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real client. The embedded HPS accepts the configuration, and does not use it."""
    monkeypatch.chdir(tmp_path)
    Path("registration.json").write_text(shown("how-to/hps-administrator.md", "registration"))
    code = shown("how-to/hps-administrator.md", "register")
    with EmbeddedHps(tmp_path / "hps") as hps:
        code = code.replace("https://hps.example:8443/hps", hps.url)
        code = code.replace("repadmin", hps.username).replace("…", hps.password)
        names: dict[str, Any] = {}
        exec(compile(code, "register.py", "exec"), names)
    assert names["evaluator"].id
    applications = names["update"].applications
    assert [application.name for application in applications].count("uv") == 1
    assert applications[-1].environment["UV_OFFLINE"] == "1"


def test_the_python_interface_as_its_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("beam.py").write_text(shown("how-to/submit.md", "beam.py"))
    make_bundle(Path("bundle"), {"beam": BundleScript(dependencies=(), requires_python=">=3.9")})
    exec(compile(shown("reference/python-api.md", "api.py"), "api.py", "exec"), {})
    said = capsys.readouterr().out
    assert said == f"{tmp_path}/api/index.html 2\nbeam - 2 jobs 2 done\n"
