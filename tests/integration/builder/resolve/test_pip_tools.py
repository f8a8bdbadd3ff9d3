"""The second resolver, under a pip configuration that is the law."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.inputs.targets import host_platform
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter
from tests.support.command_line import (
    HERE,
    Told,
    call,
    indexes,
    read_bundle,
    versions,
    write_script,
)
from tests.support.distributions import make_buildable_sdist, make_wheel, sha256_of
from tests.support.index_server import Fault, IndexServer
from tests.support.uv_cases import trap

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "3.12" if HERE != "3.12" else "3.13"


class PipSite:
    """A machine whose pip.conf names the index; builds by pip-tools there."""

    def __init__(self, folder: Path, index: IndexServer) -> None:
        self.folder = folder
        self.index = index
        self.bundle = folder / "bundle"
        self.configure()

    def configure(self, *lines: str, url: str | None = None) -> None:
        index_url = url or self.index.url_with_credentials()
        (self.folder / "pip.conf").write_text(
            "\n".join(["[global]", f"index-url = {index_url}", "retries = 0", *lines])
        )

    def build(
        self,
        *dependencies: str,
        flags: tuple[object, ...] = (),
        tool: str = "",
        python: str = f"=={HERE}",
    ) -> Told:
        script = write_script(self.folder, *dependencies, tool=tool, python=python)
        return call(
            "build", script, "-o", self.bundle, "--no-uv", "--resolver", "pip-tools", *flags
        )


@pytest.fixture
def pip_site(tmp_path: Path, index: IndexServer, monkeypatch: pytest.MonkeyPatch) -> PipSite:
    index.username, index.password = "kate", "s3cr3t-word"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    return PipSite(tmp_path, index)


def test_the_same_bundle_as_by_uv(
    pip_site: PipSite, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but what pip does not know: upload times."""
    make_wheel(
        packages,
        "top",
        requires=["Leaf.Thing>=1", "never; sys_platform == 'win32'"],
        requires_python=">=3.8",
    )
    for version in ("1.0", "1.5", "2.0rc1"):
        make_wheel(packages, "Leaf.Thing", version)
    pip_site.index.upload_time = None
    told = pip_site.build("top")
    assert told.code == 0, told.text
    assert versions(pip_site.bundle) == {"top": "1.0", "leaf-thing": "1.5"}
    assert "2 files fetched" in told.err
    assert set(indexes(pip_site.bundle).values()) == {pip_site.index.url.rstrip("/")}
    assert call("verify", pip_site.bundle).code == 0
    wheels = {path.name: sha256_of(path) for path in packages.glob("*.whl")}
    held = {path.name: sha256_of(path) for path in (pip_site.bundle / "wheels").glob("*.whl")}
    assert held == {name: wheels[name] for name in held}
    by_uv = pip_site.folder / "by-uv"
    monkeypatch.setenv("UV_DEFAULT_INDEX", pip_site.index.url_with_credentials())
    assert call("build", pip_site.folder / "job.py", "-o", by_uv, "--no-uv").code == 0
    for path in sorted(
        path for path in by_uv.rglob("*") if path.is_file() and ".writer" not in path.parts
    ):
        twin = pip_site.bundle / path.relative_to(by_uv)
        assert twin.is_file(), twin
        if path.name not in {"bundle.json", "SHA256SUMS", "sbom.cdx.json", "report.html"}:
            assert twin.read_bytes() == path.read_bytes(), twin
    for path in pip_site.bundle.rglob("*"):
        assert not path.is_file() or b"s3cr3t-word" not in path.read_bytes(), path


@pytest.mark.slow
def test_a_rebuild_downloads_nothing_into_the_cache_and_changes_nothing(
    pip_site: PipSite, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    assert pip_site.build("leaf").code == 0
    before = {path: path.stat().st_mtime_ns for path in pip_site.bundle.rglob("*")}
    told = pip_site.build("leaf")
    assert "is up to date" in told.err
    assert {path: path.stat().st_mtime_ns for path in pip_site.bundle.rglob("*")} == before


def test_the_command_line_wins_over_no_binary_in_pip_conf(
    pip_site: PipSite, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_buildable_sdist(packages, "source", code=trap(pip_site.folder))
    make_wheel(packages, "both")
    make_buildable_sdist(packages, "both", code=trap(pip_site.folder))
    pip_site.configure("no-binary = :all:")
    monkeypatch.setenv("PIP_NO_BINARY", "both,source")
    told = pip_site.build("both", "source")
    assert told.code == 3
    assert "satisfies the requirement source" in told.err
    assert "--allow-build" in told.err
    assert "Traceback" not in told.text
    assert not (pip_site.folder / "it-ran").exists()


@pytest.mark.slow
def test_what_is_allowed_is_built_and_nothing_else(pip_site: PipSite, packages: Path) -> None:
    make_buildable_sdist(packages, "source", requires=["leaf"])
    make_wheel(packages, "leaf")
    told = pip_site.build("source", flags=("--allow-build", "source"))
    assert told.code == 0, told.text
    assert versions(pip_site.bundle) == {"source": "1.0", "leaf": "1.0"}
    [source] = [
        file["source"]
        for file in read_bundle(pip_site.bundle)["files"].values()
        if file.get("name") == "source"
    ]
    assert source["built-from"] == sha256_of(packages / "source-1.0.tar.gz")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--python-platform", "windows"), "-x86_64-pc-windows-msvc: pip resolves for the machine"),
        (("--python-platform", "aarch64-manylinux_2_28"), "this is x86_64-"),
        (
            ("--python-platform", "x86_64-unknown-linux-musl"),
            "pip resolves for the machine it runs on",
        ),
        (("--python-version", "3.14"), "there is no Python 3.14 here"),
        (("--python-version", "3.13t"), "there is no Python 3.13t here"),
    ],
)
def test_a_target_that_is_not_this_machine_is_refused_by_name(
    pip_site: PipSite, flags: tuple[str, ...], told: str
) -> None:
    if "3.14" in flags and find_interpreter((3, 14)):
        pytest.skip("this machine has a Python 3.14")
    answer = pip_site.build("leaf", flags=flags, python=">=3.8")
    assert answer.code == 3
    assert told in answer.err
    assert not pip_site.index.requests
    assert not pip_site.bundle.exists()


@pytest.mark.slow
def test_a_wheel_for_a_newer_libc_than_the_target_has_is_refused_by_name(
    pip_site: PipSite, packages: Path
) -> None:
    tag = f"cp{HERE.replace('.', '')}"
    make_wheel(packages, "native", tag=f"{tag}-{tag}-{host_platform().partition('-')[2]}_x86_64")
    told = pip_site.build("native", flags=("--python-platform", "x86_64-manylinux_2_17"))
    assert told.code == 3
    assert "native" in told.err
    assert "no file fits" in told.err


def test_requires_python_holds_for_the_release_at_hand(pip_site: PipSite) -> None:
    micro = sys.version_info.micro + 1
    told = pip_site.build("leaf", python=f"=={HERE}.{micro}")
    assert told.code == 3
    assert f'requires-python is "=={HERE}.{micro}"' in told.err


def test_settings_that_only_uv_understands_are_refused_by_name(pip_site: PipSite) -> None:
    tool = """[tool.uv]
    exclude-newer = "2024-06-01T00:00:00Z"
    override-dependencies = ["leaf==1"]
    link-mode = "copy"
    [[tool.uv.index]]
    name = "own"
    url = "http://127.0.0.1:1/simple"
    [tool.uv.sources]
    leaf = { index = "own" }"""
    told = pip_site.build(
        "leaf", "tree @ ./tree", "vcs @ git+https://kate:s3cr3t-word@127.0.0.1/x.git", tool=tool
    )
    assert told.code == 3
    for name in ("exclude-newer", "override-dependencies", "index", "sources", "tree @", "vcs @"):
        assert name in told.err
    assert "link-mode" not in told.err
    assert "s3cr3t-word" not in told.text


def test_flags_that_only_uv_understands_are_refused(pip_site: PipSite) -> None:
    told = pip_site.build(
        "leaf",
        flags=("--default-index", "http://kate:s3cr3t-word@127.0.0.1/", "--index", "https://x"),
    )
    assert told.code == 2
    assert "--index, --default-index cannot be combined with --resolver pip-tools" in told.err
    assert "s3cr3t-word" not in told.text


@pytest.mark.slow
def test_constraints_of_script_and_command_line_hold(pip_site: PipSite, packages: Path) -> None:
    for version in ("1.0", "2.0", "3.0"):
        make_wheel(packages, "one", version)
        make_wheel(packages, "two", version)
    (pip_site.folder / "constraints.txt").write_text("two<2\n")
    tool = '[tool.uv]\nconstraint-dependencies = ["one<3"]'
    told = pip_site.build(
        "one", "two", tool=tool, flags=("--constraint", pip_site.folder / "constraints.txt")
    )
    assert told.code == 0, told.text
    assert versions(pip_site.bundle) == {"one": "2.0", "two": "1.0"}


@pytest.mark.slow
def test_a_script_that_needs_nothing_here(pip_site: PipSite) -> None:
    told = pip_site.build("never; sys_platform == 'win32'")
    assert told.code == 0, told.text
    assert versions(pip_site.bundle) == {}


class TestFailures:
    def test_a_puzzle_without_solution(self, pip_site: PipSite, packages: Path) -> None:
        make_wheel(packages, "top", requires=["leaf<1"])
        make_wheel(packages, "leaf")
        told = pip_site.build("top", "leaf")
        assert told.code == 3
        assert "conflicting dependencies" in told.err
        assert "top 1.0 depends on leaf<1" in told.err
        assert "Traceback" not in told.text

    @pytest.mark.parametrize(
        "code",
        [401, pytest.param(403, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.slow)],
    )
    def test_an_index_that_cannot_be_asked(
        self, pip_site: PipSite, packages: Path, code: int
    ) -> None:
        make_wheel(packages, "leaf")
        pip_site.index.fault("/simple/*", Fault.status(code))
        told = pip_site.build("leaf")
        assert told.code == 4, told.text
        assert str(code) in told.err
        assert pip_site.index.url in told.err
        assert "s3cr3t" not in told.text
        assert "Traceback" not in told.text

    @pytest.mark.slow
    def test_a_file_that_is_gone(self, pip_site: PipSite, packages: Path) -> None:
        make_wheel(packages, "leaf")
        pip_site.index.fault("*.whl", Fault.status(404))
        told = pip_site.build("leaf")
        assert told.code in {3, 4}
        assert "leaf-1.0-py3-none-any.whl" in told.err
        assert "Traceback" not in told.text

    def test_pip_tools_is_not_installed(
        self, pip_site: PipSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from importlib.metadata import PackageNotFoundError

        def nothing(name: str) -> object:
            raise PackageNotFoundError(name)

        monkeypatch.setattr("offline_bundle.builder.resolve.pip_sandbox.distribution", nothing)
        told = pip_site.build("leaf")
        assert told.code == 2
        assert "install offline-bundle again" in told.err


@pytest.mark.slow
def test_files_of_a_folder_and_of_a_url(pip_site: PipSite, packages: Path) -> None:
    make_wheel(pip_site.folder / "links", "found")
    make_wheel(packages, "linked", "3.0")
    pip_site.configure(f"find-links = {pip_site.folder / 'links'}")
    url = pip_site.index.url_with_credentials("/files/linked-3.0-py3-none-any.whl")
    told = pip_site.build("found", f"linked @ {url}")
    assert told.code == 0, told.text
    assert versions(pip_site.bundle) == {"found": "1.0", "linked": "3.0"}
    assert set(indexes(pip_site.bundle).values()) == {None}
    assert str(pip_site.folder) not in (pip_site.bundle / "bundle.json").read_text()
    assert "job.py contains a password" in told.err
    assert "s3cr3t-word" not in told.text
    [lock] = (pip_site.bundle / "locks/job").glob("pylock.*")
    assert "s3cr3t-word" not in lock.read_text()


@pytest.mark.slow
def test_a_yanked_pin(pip_site: PipSite, packages: Path) -> None:
    pip_site.index.describe(make_wheel(packages, "pulled").name, yanked="it broke")
    told = pip_site.build("pulled==1.0")
    assert told.code == 0, told.text
    assert "`pulled==1.0` is yanked" in told.err
    [file] = [
        file
        for file in read_bundle(pip_site.bundle)["files"].values()
        if file.get("name") == "pulled"
    ]
    assert "yanked" in file


@pytest.mark.slow
def test_another_python_of_this_machine(pip_site: PipSite, packages: Path) -> None:
    interpreter = find_interpreter(tuple(map(int, OTHER.split("."))))  # type: ignore[arg-type]
    if interpreter is None:
        pytest.skip(f"this machine has no Python {OTHER}")
    tag = f"cp{OTHER.replace('.', '')}"
    make_wheel(packages, "native", tag=f"{tag}-{tag}-manylinux_2_17_x86_64")
    make_wheel(
        packages,
        "native",
        tag=f"cp{HERE.replace('.', '')}-cp{HERE.replace('.', '')}-manylinux_2_17_x86_64",
    )
    told = pip_site.build("native", python=f"=={OTHER}.*")
    assert told.code == 0, told.text
    [wheel] = (pip_site.bundle / "wheels").glob("*.whl")
    assert tag in wheel.name


@pytest.mark.slow
@pytest.mark.registry
def test_the_same_wheels_as_by_uv_from_the_real_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_CONFIG_FILE")
    script = write_script(tmp_path, "numpy", "requests[socks]", "rich")
    for resolver in ("uv", "pip-tools"):
        told = call("build", script, "-o", tmp_path / resolver, "--resolver", resolver)
        assert told.code == 0, told.text
    held = [
        {path.name: sha256_of(path) for folder in ("wheels", "uv") for path in (tmp_path / resolver / folder).rglob("*")
         if path.is_file()}
        for resolver in ("uv", "pip-tools")
    ]  # fmt: skip
    assert held[0] == held[1]
    assert len(held[0]) > 10
    done = subprocess.run(
        [sys.executable, tmp_path / "pip-tools/run.py", script], capture_output=True, text=True, check=False,
        env={**os.environ, "OFFLINE_BUNDLE_CACHE": str(tmp_path / "node")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "node")
    assert json.loads((tmp_path / "pip-tools/bundle.json").read_text())["uv"]
