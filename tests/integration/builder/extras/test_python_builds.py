"""Interpreters for nodes: chosen from uv's own list, fetched and verified by uv, brought by
bundles.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.extras.python_builds import choose_archives, missing
from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.inputs.scripts import read_scripts
from offline_bundle.builder.inputs.targets import Target, host_platform, make_target
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
from offline_bundle.wheelhouse.derived.diff import diff
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledPython, Manifest, read_manifest
from offline_bundle.wheelhouse.runtime.disk.cache_setup import cache_directory
from offline_bundle.wheelhouse.runtime.errors import (
    FetchError,
    IntegrityError,
    OutOfDateError,
    ResolveError,
)
from offline_bundle.wheelhouse.store.contents import contents
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from offline_bundle.wheelhouse.transport.merge import Side, check_immutable_files, merge
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.distributions import make_wheel, sha256_of
from tests.support.interpreters import FILENAME, KEY, RELEASE, VERSION, python_mirror
from tests.support.launch_python_cases import bare_root, run_bare
from tests.support.launcher_cases import Node
from tests.support.mirror_server import serve
from tests.support.node_file_cases import node_json
from tests.support.pipeline_cases import HERE, TARGET, Factory, digests, factory

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["factory"]

BROUGHT = f"python/{RELEASE}/{FILENAME}"
linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the archive is made of a Linux Python"
)


def test_a_patch_release_that_nobody_knows_is_noted_and_the_bundle_made(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = factory.script("leaf")
    source = script.read_text()
    for wanted, is_known in ((f"=={HERE}.98", False), (f">={HERE}.1,<{HERE}.99", True)):
        script.write_text(source.replace(f"=={HERE}.*", wanted))
        notes = [note for note in factory.build(script).notes if "does not start (exit 7)" in note]
        assert [f'requires-python = "{wanted}" admits no' in note for note in notes] == (
            [] if is_known else [True]
        )


def chosen(python: str, platform: str, *requirements: str | None) -> str:
    target = make_target(python, platform)
    [offer] = choose_archives(find_uv(), {target: requirements or (None,)}, Credentials()).values()
    assert offer.filename.endswith(("-install_only_stripped.tar.gz", "-install_only.tar.gz"))
    assert offer.bundle_path == f"python/{offer.release}/{offer.filename}"
    return offer.key


@pytest.mark.parametrize(
    ("python", "platform", "tail"),
    [
        ("3.12", "x86_64-manylinux_2_17", "-linux-x86_64-gnu"),
        ("3.12", "aarch64-manylinux_2_28", "-linux-aarch64-gnu"),
        ("3.13", "x86_64-unknown-linux-musl", "-linux-x86_64-musl"),
        ("3.13t", "x86_64-manylinux_2_28", "+freethreaded-linux-x86_64-gnu"),
        ("3.11", "aarch64-apple-darwin", "-macos-aarch64-none"),
        ("3.12", "x86_64-pc-windows-msvc", "-windows-x86_64-none"),
    ],
)
def test_uvs_list_has_the_newest_release_for_the_baseline_of_each_platform(
    python: str, platform: str, tail: str
) -> None:
    key = chosen(python, platform)
    version = key.removeprefix("cpython-").removesuffix(tail)
    assert key.endswith(tail)
    assert [int(part) for part in version.split(".")][:2] == [3, int(python[2:4])]
    assert int(version.rpartition(".")[2]) > 5, "the newest of the minor, and no pre-release"


def test_what_all_scripts_of_a_target_admit_is_taken() -> None:
    assert chosen("3.12", "linux", None, "<3.12.4", ">=3.12").startswith("cpython-3.12.3-")


def test_targets_that_uv_has_no_python_for_are_all_named() -> None:
    wanted = {
        make_target("3.12", "linux"): ("==3.12.99", None),
        Target("3.99", "x86_64-manylinux_2_28"): (None,),
    }
    wanted[make_target("3.13t", "linux")] = ("==3.13.0",)
    with pytest.raises(ResolveError) as caught:
        choose_archives(find_uv(), wanted, Credentials())
    *unknown, packed = caught.value.problems
    assert unknown == [
        "cp312-x86_64-manylinux_2_28 (requires-python ==3.12.99)",
        "cp399-x86_64-manylinux_2_28",
    ]
    assert packed.startswith(
        "cp313t-x86_64-manylinux_2_28 (requires-python ==3.13.0): only cpython-3.13.0+"
    )
    assert packed.endswith(".tar.zst, and no node's Python before 3.14 can unpack that")


def test_what_the_bundle_has_is_kept_while_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "eval.py"
    path.write_text("# /// script\n# dependencies = []\n# ///\n")
    [script] = read_scripts([path])
    target = make_target("3.12", "linux")
    python = BundledPython(version="3.12.4", implementation="cpython", path="python/1/a.tar.gz")
    current = Manifest(created_by="", timestamp="", pythons={target.name: python})
    assert missing([(script, target)], current) == {}
    newer = replace(script, requires_python=">=3.12.5")
    assert missing([(script, target), (newer, target)], current) == {target: (None, ">=3.12.5")}
    assert missing([(script, target)], None) == {target: (None,)}


class Mirrored:
    """A build with interpreters from a list on loopback."""

    def __init__(self, factory: Factory, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.factory, self.folder, self.patch = factory, folder, monkeypatch

    def use(self, url: str, **changes: object) -> None:
        path = python_mirror().write_list(self.folder / "list.json", url, **changes)
        self.patch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(path))

    def build(self, *scripts: Path, **changes: object) -> Manifest:
        values = {"uv_version": None, "with_python": True, **changes}
        self.factory.build(*(scripts or [self.factory.script("leaf")]), **values)  # type: ignore[arg-type]
        return read_manifest(changes.get("output") or self.factory.bundle)  # type: ignore[arg-type]


@pytest.fixture
def mirrored(
    factory: Factory, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mirrored:
    make_wheel(packages, "leaf")
    return Mirrored(factory, tmp_path, monkeypatch)


@linux_only
def test_a_bundle_brings_its_interpreter(mirrored: Mirrored, tmp_path: Path) -> None:
    factory = mirrored.factory
    with serve(python_mirror().folder, "user:hunter2") as (address, asked):
        mirrored.use(f"http://user:hunter2@{address}")
        manifest = mirrored.build()
        assert manifest.pythons == {
            TARGET: BundledPython(version=VERSION, implementation="cpython", path=BROUGHT)
        }
        assert (
            manifest.files[BROUGHT].sha256
            == sha256_of(factory.bundle / BROUGHT)
            == sha256_of(python_mirror().archive)
        )
        source = manifest.files[BROUGHT].source
        assert source is not None
        assert source.url == f"http://{address}/{RELEASE}/{FILENAME.replace('+', '%2B')}"
        assert {"run.sh", "python-downloads.json"} <= manifest.files.keys()
        assert (
            json.loads((factory.bundle / "python-downloads.json").read_text())[KEY]["sha256"]
            == manifest.files[BROUGHT].sha256
        )
        raise_for_problems(verify(factory.bundle))
        assert not [
            path
            for path in factory.bundle.rglob("*.*")
            if path.is_file() and b"hunter2" in path.read_bytes()
        ]
        before, count = digests(factory.bundle), len(asked)
        assert not factory.build(factory.script("leaf"), uv_version=None, with_python=True).changed
        mirrored.build(output=tmp_path / "another")
        assert len(asked) == count, "it was kept in the cache"
    another = digests(tmp_path / "another")
    assert another == before == digests(factory.bundle), "the same inputs give the same bytes"


@linux_only
def test_later_builds_without_the_flag_keep_it_and_add_none(mirrored: Mirrored) -> None:
    factory = mirrored.factory
    mirrored.use(python_mirror().folder.as_uri())
    mirrored.build()
    other = factory.script("leaf", name="other")
    platform = (
        host_platform().replace("x86_64", "?").replace("aarch64", "x86_64").replace("?", "aarch64")
    )
    manifest = mirrored.build(other, with_python=False, platforms=(host_platform(), platform))
    assert list(manifest.pythons) == [TARGET]
    assert len(manifest.targets) == 2
    raise_for_problems(verify(factory.bundle))


@linux_only
def test_it_is_carried_shown_compared_and_pruned(mirrored: Mirrored, tmp_path: Path) -> None:
    factory = mirrored.factory
    mirrored.use(python_mirror().folder.as_uri())
    without = mirrored.build(output=tmp_path / "without", with_python=False)
    manifest = mirrored.build()
    assert not without.pythons
    assert b"pythons" not in without.to_json()
    assert diff(without, manifest).pythons.added == (TARGET,)
    assert contents(manifest, {}).pythons == {TARGET: VERSION}
    report = (factory.bundle / "report.html").read_text()
    assert VERSION in report
    assert BROUGHT in (factory.bundle / "sbom.cdx.json").read_text()
    pack(factory.bundle, tmp_path / "bundle.tar")
    unpack([tmp_path / "bundle.tar"], tmp_path / "without", replace_scripts=True)
    merged = read_manifest(tmp_path / "without")
    assert merged.pythons == manifest.pythons
    raise_for_problems(verify(tmp_path / "without"))
    mirrored.build(factory.script("leaf", name="other"), with_python=False, platforms=("macos",))
    prune(factory.bundle, drop_targets=[TARGET], grace=timedelta())
    left = read_manifest(factory.bundle)
    assert not left.pythons
    assert BROUGHT not in left.files
    assert not (factory.bundle / BROUGHT).exists()
    raise_for_problems(verify(factory.bundle))


def other_release(manifest: Manifest, version: str) -> Manifest:
    path = f"python/20260101/cpython-{version}.tar.gz"
    python = BundledPython(version=version, implementation="cpython", path=path)
    return replace(
        manifest, pythons={TARGET: python}, files={**manifest.files, path: manifest.files[BROUGHT]}
    )


@linux_only
def test_of_two_interpreters_for_one_target_merging_takes_the_newer(mirrored: Mirrored) -> None:
    mirrored.use(python_mirror().folder.as_uri())
    manifest = mirrored.build()
    for version, wins in ((f"{HERE}.99", f"{HERE}.99"), (f"{HERE}.1", VERSION)):
        other = other_release(manifest, version)
        for order in ((manifest, other), (other, manifest)):
            merged, pages = merge(
                *(Side(one, digit * 64) for one, digit in zip(order, "12", strict=True))
            )
            assert merged.pythons[TARGET].version == wins
            assert json.loads(pages["python-downloads.json"]).popitem()[1]["patch"] == int(
                wins.split(".")[2]
            )


@linux_only
@pytest.mark.parametrize("fault", ["digest", "missing", "builtin"])
def test_what_uv_cannot_verify_is_not_brought(
    fault: str, mirrored: Mirrored, tmp_path: Path
) -> None:
    """`builtin`: no list of a site's own, but a mirror that serves something else under the names
    that uv knows.
    """
    with serve(tmp_path / "served") as (address, asked):
        (tmp_path / "served").mkdir()
        if fault == "digest":
            mirrored.use(python_mirror().folder.as_uri(), sha256="0" * 64)
        elif fault == "missing":
            mirrored.use(f"http://{address}")
        else:
            [offer] = choose_archives(
                find_uv(), {make_target(HERE, host_platform()): (None,)}, Credentials()
            ).values()
            place = tmp_path / "served" / offer.release / offer.filename
            place.parent.mkdir()
            place.write_bytes(python_mirror().archive.read_bytes())
            mirrored.patch.setenv("UV_PYTHON_INSTALL_MIRROR", f"http://user:hunter2@{address}")
        message = mirrored.factory.fails(
            FetchError, mirrored.factory.script("leaf"), uv_version=None, with_python=True
        )
    assert "cannot be fetched" in message
    assert "hunter2" not in message
    assert ("404" if fault == "missing" else "Hash mismatch") in message
    assert bool(asked) == (fault != "digest")
    assert not (mirrored.factory.bundle / "bundle.json").exists()


@linux_only
def test_a_kept_archive_that_was_damaged_is_fetched_anew(
    mirrored: Mirrored, tmp_path: Path
) -> None:
    mirrored.use(python_mirror().folder.as_uri())
    mirrored.build()
    with serve(python_mirror().folder) as (address, asked):
        mirrored.use(f"http://{address}")
        [kept] = (Path(cache_directory()) / "python-archives" / KEY).iterdir()
        kept.write_bytes(b"damaged")
        mirrored.build(output=tmp_path / "another")
        assert asked
    assert sha256_of(tmp_path / "another" / BROUGHT) == sha256_of(python_mirror().archive)


@linux_only
def test_uvs_configuration_file_counts_too(mirrored: Mirrored, tmp_path: Path) -> None:
    path = python_mirror().write_list(tmp_path / "list.json", python_mirror().folder.as_uri())
    (tmp_path / "uv.toml").write_text(f'python-downloads-json-url = "{path}"\n')
    mirrored.patch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    assert mirrored.build().pythons[TARGET].version == VERSION


@linux_only
def test_an_archive_never_changes_its_bytes_under_one_name(mirrored: Mirrored) -> None:
    mirrored.use(python_mirror().folder.as_uri())
    manifest = mirrored.build()
    changed = replace(manifest.files[BROUGHT], sha256="0" * 64)
    with pytest.raises(IntegrityError):
        check_immutable_files(
            manifest, replace(manifest, files={**manifest.files, BROUGHT: changed})
        )


@linux_only
def test_a_node_without_a_fitting_python_gets_one(mirrored: Mirrored, tmp_path: Path) -> None:
    mirrored.use(python_mirror().folder.as_uri())
    machine = host_platform().partition("-")[0]
    node = node_json(tmp_path, machine=machine, pythons=[])
    manifest = mirrored.build(nodes=(node,))
    assert list(manifest.pythons) == [f"cp{HERE.replace('.', '')}-{machine}-manylinux_2_28"]


@linux_only
def test_the_command_line_brings_it(mirrored: Mirrored, tmp_path: Path) -> None:
    mirrored.use(python_mirror().folder.as_uri())
    script = mirrored.factory.script("leaf")
    command: Sequence[str] = [
        sys.executable, "-m", "offline_bundle", "build", str(script), "-o", str(tmp_path / "out"), "--no-uv",
        "--with-python", "--default-index", mirrored.factory.index.url,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


@linux_only
def test_locked_brings_a_lost_one_back_and_adds_none(mirrored: Mirrored) -> None:
    factory = mirrored.factory
    script = factory.script("leaf")
    mirrored.use(python_mirror().folder.as_uri())
    mirrored.build(script, with_python=False)
    with pytest.raises(OutOfDateError, match=TARGET):
        mirrored.build(script, is_locked=True)
    mirrored.build(script)
    before = digests(factory.bundle)
    for name in (BROUGHT, "python-downloads.json", "run.sh", "runtime/python/interpreter_info.py"):
        (factory.bundle / name).unlink()
    mirrored.build(script, is_locked=True)
    assert digests(factory.bundle) == before


@linux_only
@pytest.mark.registry
@pytest.mark.parametrize(
    "version", [uv_version_here(), pytest.param("0.7.19", marks=pytest.mark.slow)]
)
def test_a_job_runs_in_a_root_with_a_shell_and_libc_only(
    version: str, tmp_path: Path, mirrored: Mirrored
) -> None:
    """No Python, no uv, no coreutils, no network: with uv's own static build, which needs nothing
    but the kernel.
    """
    mirrored.use(python_mirror().folder.as_uri())
    node = Node(tmp_path)
    script = mirrored.factory.script(
        "six", body="import six, sys\nprint(six.__version__, sys.base_prefix)\n"
    )
    mirrored.build(script, output=node.bundle, uv_version=version, options=ResolveOptions())
    done = run_bare(*bare_root(node, "/share/bundle/run.sh", script.name))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f" /node/.cache/offline-bundle/bootstrap/{KEY}\n")
