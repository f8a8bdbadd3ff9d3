"""The commands of the pages on jobs and settings, as they are written, with an embedded HPS."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.bundles import BundleScript, make_bundle
from tests.support.howto_cases import HOW_TO, commands, place, run

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["place"]

BODY = """
import os, pathlib, sys
marker = pathlib.Path({marker!r})
if os.environ.get("OFFLINE_BUNDLE_JOB") == "3" and not marker.exists():
    marker.touch()
    sys.exit("the third job fails once")
print(*sys.argv[1:])
pathlib.Path("plot.png").write_bytes(b"plot")
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def site(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A share with a bundle, and an HPS that `offline-bundle embedded-hps` started."""
    bundle = place.parent / "shared" / "uvcache"
    body = BODY.format(marker=str(place / "marker"))
    make_bundle(bundle, {"eval": BundleScript(requires_python=">=3.9", body=body)})
    shutil.copy(bundle / "scripts" / "eval.py", place)
    (place / "values.csv").write_text("thickness,cores,memory\n0.5,1,100M\n1.0,1,200M\n")
    [line] = [line for line in commands("embedded-hps.md") if line.startswith("offline-bundle")]
    words = line.replace("DIR", str(bundle)).replace("8443", "0").split()
    programs = Path(sys.executable).parent
    command = [programs / words[0], *words[1:], "--username", "me"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        told = dict(
            re.split(r":\s+", server.stdout.readline().strip(), maxsplit=1) for _ in range(5)
        )
        monkeypatch.setenv("HPS_URL", told["url"])
        monkeypatch.setenv("HPS_USERNAME", "me")
        monkeypatch.setenv("HPS_PASSWORD", told["password"])
        monkeypatch.setenv("OFFLINE_BUNDLE_CA_FILE", told["ca file"])
        yield place
        server.send_signal(signal.SIGINT)


def lines_of(beginning: str) -> list[str]:
    """The commands of the page that begin so, with the server that variables name."""
    lines = [re.sub(r"-U \S+ |\s*…", "", line) for line in commands("submit.md")]
    return [line for line in lines if line.startswith(f"offline-bundle {beginning}")]


def test_submit(site: Path) -> None:
    first, values, resources, inputs = lines_of("submit")
    with pytest.raises(AssertionError, match="the third job fails once"):
        run(first, site)
    assert len(list(site.glob("results/job-*/plot.png"))) == 9
    projects, show, wait, by_folder, follow, retry, *others = lines_of("jobs")
    timeouts, some, cancel, delete = others
    assert "eval - 10 jobs" in run(projects, site).stdout
    for line in (show, wait, by_folder):
        with pytest.raises(AssertionError, match="the third job fails once"):
            run(line.replace("PROJECT", "'eval - 10 jobs'"), site)
    run(retry.replace("PROJECT", "'eval - 10 jobs'"), site)
    run(follow.replace("PROJECT", "'eval - 10 jobs'"), site)
    for line in (timeouts, some):
        with pytest.raises(AssertionError, match="no failed jobs that match"):
            run(line.replace("PROJECT", "'eval - 10 jobs'"), site)
    run(cancel.replace("PROJECT", "'eval - 10 jobs'"), site)
    run(delete.replace("PROJECT", "'eval - 10 jobs'"), site)
    assert "eval - 10 jobs" not in run(projects, site).stdout

    run(values, site)
    run("offline-bundle jobs 'eval - 2 jobs' --download values", site)
    consoles = [path.read_text() for path in site.glob("values/job-*/console_output.txt")]
    for thickness in ("0.5", "1.0"):
        assert any(f"--thickness {thickness} --fast\n" in text for text in consoles)
    run(resources, site)
    (site / "work" / "data").mkdir(parents=True)
    for name in ("helper.py", "data/loads.csv"):
        (site / "work" / name).touch()
    shutil.copy(site / "eval.py", site / "work")
    run(f"{inputs} --bundle /shared/uvcache -j 1", site)


def test_program_of_the_embedded_hps(place: Path) -> None:
    """The lines of the page, with the client that it leaves out."""
    bundle = make_bundle(place / "bundle", {"eval": BundleScript()})
    text = (HOW_TO / "embedded-hps.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    ((?: {4})?(?:from|with|client).*)$", text, re.MULTILINE)
    assert len(lines) == 3
    head = f"from pathlib import Path\nfrom ansys.hps.client import Client\nfolder, bundle = Path('d'), Path({str(bundle)!r})"
    code = "\n".join([head, *lines])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=place,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_settings(place: Path) -> None:
    """Of docs/reference/configuration.md."""
    (place / "eval.py").write_text("# /// script\n# dependencies = []\n# ///\n")
    text = (HOW_TO.parent / "reference" / "configuration.md").read_text(encoding="utf-8")
    [settings] = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (place / "offline-bundle.toml").write_text(settings)
    (place / "site.toml").write_text('url = "https://hps.example:8443/hps"\n')
    [line] = commands("../reference/configuration.md")
    run(line, place)
    assert (place / "bundle" / "offline-bundle.toml").read_text().startswith("url")
    environment = {**os.environ}
    del environment["OFFLINE_BUNDLE_NO_CONFIG"]
    done = subprocess.run(
        [Path(sys.executable).parent / "offline-bundle", "config", "--json"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"bundle", "python-version", "python-platform", "url", "ca-file"} <= {
        *json.loads(done.stdout)
    }
