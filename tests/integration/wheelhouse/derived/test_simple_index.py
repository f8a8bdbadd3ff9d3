from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import uv

from offline_bundle.wheelhouse.derived.simple_index import IndexFile, render_project_html
from tests.support.distributions import make_wheel, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.simple_index_cases import Index, index, server, site

__all__ = ["index", "server", "site"]


def clean_environment(tmp_path: Path) -> dict[str, str]:
    """The caller's environment without any pip or uv setting of this machine."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
    ours = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CACHE_DIR": str(tmp_path / "pip-cache"),
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_NO_CONFIG": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return kept | ours


def run_uv(
    tmp_path: Path, *arguments: str, stdin: str = "", expect: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [uv.find_uv_bin(), *arguments, "--python", sys.executable]
    done = subprocess.run(
        command,
        env=clean_environment(tmp_path),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done


def compile_with_uv(tmp_path: Path, index: Index, requirement: str, *options: str) -> str:
    arguments = ["--no-header", "--no-annotate", "--default-index", index.url, *options]
    return run_uv(tmp_path, "pip", "compile", "-", *arguments, stdin=requirement).stdout


def run_pip(tmp_path: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--isolated", *arguments]
    done = subprocess.run(
        command, env=clean_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_uv_resolves_without_the_yanked_and_the_unfit(tmp_path: Path, index: Index) -> None:
    assert compile_with_uv(tmp_path, index, "demo").splitlines() == ["demo==2.0", "silly-walk==1.0"]


def test_uv_takes_its_hashes_from_the_page(tmp_path: Path, index: Index) -> None:
    text = compile_with_uv(tmp_path, index, "demo==2.0", "--generate-hashes")
    assert f"--hash=sha256:{sha256_of(index.folder / 'wheels/demo-2.0-py3-none-any.whl')}" in text
    assert (
        f"--hash=sha256:{sha256_of(index.folder / 'wheels/Silly_Walk-1.0-py3-none-any.whl')}"
        in text
    )


def test_uv_writes_size_and_upload_time_into_its_lock(tmp_path: Path, index: Index) -> None:
    text = compile_with_uv(tmp_path, index, "demo==1.0", "--format", "pylock.toml")
    assert "size = " in text
    assert "upload-time = 2024-01-01T00:00:00Z" in text


def test_uv_honours_exclude_newer(tmp_path: Path, index: Index) -> None:
    text = compile_with_uv(tmp_path, index, "demo", "--exclude-newer", "2024-06-01T00:00:00Z")
    assert text.splitlines() == ["demo==1.0"]


@pytest.mark.parametrize(
    ("version", "reason"), [("2.5", 'broken: "1 < 2" & <script>'), ("2.6", "yanked")]
)
def test_uv_knows_why_a_file_was_yanked(
    tmp_path: Path, index: Index, version: str, reason: str
) -> None:
    arguments = [
        "--default-index",
        index.url,
        f"demo=={version}",
        "--target",
        str(tmp_path / "target"),
    ]
    assert reason in run_uv(tmp_path, "pip", "install", *arguments).stderr


def test_uv_installs_names_that_must_be_quoted(tmp_path: Path, index: Index) -> None:
    target = tmp_path / "target"
    arguments = ["--default-index", index.url, "torchlike", "epochal", "--target", str(target)]
    run_uv(tmp_path, "pip", "install", *arguments)
    assert "2.0+cpu" in (target / "torchlike.py").read_text()
    assert "1!1.0" in (target / "epochal.py").read_text()


def test_uv_reads_the_metadata_beside_the_wheel(tmp_path: Path, server: Index) -> None:
    compile_with_uv(tmp_path, server, "demo")
    assert "/wheels/demo-2.0-py3-none-any.whl.metadata" in server.requests
    assert "/wheels/demo-2.0-py3-none-any.whl" not in server.requests


def test_pip_downloads_what_fits(tmp_path: Path, index: Index) -> None:
    run_pip(tmp_path, "download", "--index-url", index.url, "-d", str(tmp_path / "got"), "demo")
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == [
        "Silly_Walk-1.0-py3-none-any.whl",
        "demo-2.0-py3-none-any.whl",
    ]


def test_pip_installs_names_that_must_be_quoted(tmp_path: Path, index: Index) -> None:
    target = tmp_path / "target"
    run_pip(
        tmp_path,
        "install",
        "--index-url",
        index.url,
        "--target",
        str(target),
        "torchlike",
        "epochal",
    )
    assert "2.0+cpu" in (target / "torchlike.py").read_text()
    assert "1!1.0" in (target / "epochal.py").read_text()


def test_pip_reads_the_metadata_beside_the_wheel(tmp_path: Path, server: Index) -> None:
    arguments = ["install", "--index-url", server.url, "--dry-run", "--ignore-installed", "demo"]
    assert "Would install" in run_pip(tmp_path, *arguments)
    assert "/wheels/demo-2.0-py3-none-any.whl.metadata" in server.requests


def test_pip_refuses_a_wheel_that_differs_from_the_page(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "demo")
    file = IndexFile(filename=wheel.name, url=f"../../wheels/{wheel.name}", sha256="0" * 64, size=1)
    page = tmp_path / "simple/demo/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(render_project_html("demo", [file]))
    url = (tmp_path / "simple").as_uri()
    with pytest.raises(AssertionError, match="DO NOT MATCH"):
        run_pip(tmp_path, "download", "--index-url", url, "-d", str(tmp_path / "got"), "demo")


def test_metadata_siblings_do_not_disturb_find_links(tmp_path: Path, site: Path) -> None:
    wheels = str(site / "wheels")
    offline = ["--no-index", "--find-links", wheels]
    run_uv(
        tmp_path,
        "pip",
        "install",
        "--offline",
        *offline,
        "demo==2.0",
        "--target",
        str(tmp_path / "by-uv"),
    )
    assert (tmp_path / "by-uv/Silly_Walk.py").exists()
    run_pip(tmp_path, "install", *offline, "--target", str(tmp_path / "by-pip"), "demo==2.0")
    assert (tmp_path / "by-pip/Silly_Walk.py").exists()
