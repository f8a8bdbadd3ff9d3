"""From scripts to a bundle and back: the whole build, against an index on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.pylock import Pylock, is_valid_pylock_path

from offline_bundle.builder.inputs.targets import host_platform
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.wheelhouse.derived.complete import file_entry
from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest, render_checksums
from offline_bundle.wheelhouse.runtime.disk.safe_folder import SafeFolder
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    InputError,
    IntegrityError,
    ResolveError,
)
from offline_bundle.wheelhouse.store.shipped import bundle_files
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from tests.support.archives import small_disk
from tests.support.distributions import (
    make_buildable_sdist,
    make_source_tree,
    make_wheel,
    sha256_of,
)
from tests.support.index_server import Fault, IndexServer
from tests.support.uv_cases import make_repository, trap

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.pipeline_cases import (
    CP,
    HERE,
    TARGET,
    Factory,
    digests,
    factory,
    make_uv_wheel,
    snapshot,
)

__all__ = ["factory"]

UV = "x86_64-manylinux_2_17"


def test_a_bundle_holds_what_the_format_says(factory: Factory, packages: Path) -> None:
    wheel = make_wheel(packages, "Top.Thing", "1.2", requires=["leaf"], requires_python=">=3.8")
    make_wheel(packages, "leaf")
    factory.index.describe(wheel.name, upload_time="2025-03-04T05:06:07.890000Z")
    report = factory.build(factory.script("top-thing"))
    assert report.changed
    raise_for_problems(verify(factory.bundle))
    names = set(digests(factory.bundle))
    lock = factory.manifest.scripts["job"].locks[TARGET]
    for path, prefix in ((lock.lock, "pylock."), (lock.requirements, "requirements-")):
        digest = sha256_of(factory.bundle / path)[:16]
        assert path.startswith(f"locks/job/{prefix}{TARGET}-{digest}.")
    launcher = set(bundle_files(with_cache=False, with_pythons=False))
    assert {"run.py", "runtime/errors.py", "runtime/launcher/cold_start.py"} <= launcher
    assert names - launcher == {
        "bundle.json", "SHA256SUMS", "uv.toml",
        "sbom.cdx.json", "report.html", "scripts/job.py",
        lock.lock, lock.requirements,
        "wheels/Top_Thing-1.2-py3-none-any.whl", "wheels/Top_Thing-1.2-py3-none-any.whl.metadata",
        "wheels/leaf-1.0-py3-none-any.whl", "wheels/leaf-1.0-py3-none-any.whl.metadata",
        f"bytecode/{CP}/Top_Thing-1.2-py3-none-any.whl.tar.gz", f"bytecode/{CP}/leaf-1.0-py3-none-any.whl.tar.gz",
        "simple/index.html", "simple/index.json", "simple/top-thing/index.html", "simple/top-thing/index.json",
        "simple/leaf/index.html", "simple/leaf/index.json",
    }  # fmt: skip
    assert sha256_of(factory.bundle / "wheels" / wheel.name) == sha256_of(wheel)
    assert (
        subprocess.run(
            ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=factory.bundle, check=False
        ).returncode
        == 0
    )


@pytest.mark.parametrize("full", ["bundle", "cache"])
def test_too_small_a_disk_is_told_before_anything_is_fetched(
    factory: Factory, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    wheel = make_wheel(packages, "large", padding=3_000_000)
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        if full == "cache":
            monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(disk / "cache"))
        else:
            factory.bundle = disk / "bundle"
        told = factory.fails(BundleError, factory.script("large"))
        assert f"{wheel.stat().st_size:,} bytes are needed, " in told
        assert str(disk) in told
        assert (
            "OFFLINE_BUNDLE_CACHE" if full == "cache" else "name another folder with -o"
        ) in told
        assert not factory.bundle.exists()
    assert not factory.index.requests_for(r"\.whl$")


def test_a_disk_that_fills_up_all_the_same_loses_nothing(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    """The index does not tell the size, so that nobody can ask for room."""
    make_wheel(packages, "leaf")
    wheel = make_wheel(packages, "large", padding=3_000_000)
    factory.index.describe(wheel.name, size=None)
    with small_disk(tmp_path / "disk", 1_500_000) as disk:
        factory.bundle = disk / "bundle"
        factory.build(factory.script("leaf"))
        before = digests(factory.bundle)
        told = factory.fails(BundleError, factory.script("large"))
        assert "No space left on device" in told
        assert digests(factory.bundle) == before
        raise_for_problems(verify(factory.bundle))


def test_the_lock_is_a_valid_pep_751_lock_with_relative_paths(
    factory: Factory, packages: Path
) -> None:
    wheel = make_wheel(packages, "leaf")
    factory.build(factory.script("leaf"))
    path = factory.bundle / factory.manifest.scripts["job"].locks[TARGET].lock
    assert is_valid_pylock_path(path)
    lock = Pylock.from_dict(tomllib.loads(path.read_text()))
    [package] = lock.packages
    assert package.wheels
    [entry] = package.wheels
    assert (path.parent / str(entry.path)).resolve() == (
        factory.bundle / "wheels" / wheel.name
    ).resolve()
    assert (entry.hashes, entry.size, entry.url) == (
        {"sha256": sha256_of(wheel)},
        wheel.stat().st_size,
        None,
    )


def test_the_manifest_tells_where_each_file_came_from_and_who_needs_it(
    factory: Factory, packages: Path
) -> None:
    wheel = make_wheel(packages, "leaf", requires_python=">=3.8")
    factory.index.describe(wheel.name, upload_time="2025-03-04T05:06:07Z")
    factory.build(factory.script("leaf"))
    file = factory.manifest.files[f"wheels/{wheel.name}"]
    assert file.source
    assert file.source.index
    assert file.source.index.rstrip("/") == factory.index.url.rstrip("/")
    assert file.source.url == factory.index.file_url(wheel.name)
    assert (file.name, file.version, file.requires_python, file.upload_time) == (
        "leaf",
        "1.0",
        ">=3.8",
        "2025-03-04T05:06:07Z",
    )
    assert file.needed_by == (f"job/{TARGET}",)
    assert factory.manifest.timestamp == "2025-03-04T05:06:07Z"


def test_building_again_downloads_nothing_and_rewrites_nothing(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = factory.script("leaf")
    factory.build(script)
    before = snapshot(factory.bundle)
    factory.index.requests.clear()
    report = factory.build(script)
    assert not report.changed
    assert snapshot(factory.bundle) == before
    assert not factory.index.requests_for("*.whl")
    assert not (factory.bundle / ".writer" / "pending.json").exists()


def test_slow_modules_are_not_loaded_before_they_are_needed() -> None:
    late = [
        "offline_bundle.builder.resolve.pip_tools",
        "offline_bundle.builder.fetch.http",
        "requests",
        "cryptography",
        "cyclonedx",
        "cvss",
        "jinja2",
        "yaml",
    ]
    code = f"import sys, offline_bundle.builder.pipeline; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_inputs_give_the_same_bytes_elsewhere(
    factory: Factory, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "leaf")
    make_source_tree(tmp_path / "own", "own", declared=["leaf"])
    script = factory.script("own", tool='[tool.uv.sources]\nown = { path = "own" }')
    factory.build(script)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "other-cache"))
    factory.build(script, output=tmp_path / "second")
    assert digests(tmp_path / "second") == digests(factory.bundle)


def test_source_date_epoch_dates_the_bundle(
    factory: Factory, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "leaf")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    factory.build(factory.script("leaf"))
    assert factory.manifest.timestamp == "1970-01-02T00:00:00Z"
    for text in ("soon", "1764300000000", "253402300800", "-1", "1e9", "1_0", "١٢"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        message = factory.fails(InputError, factory.script("leaf"))
        assert f"not a number of seconds since 1970: {text}" in message


def test_a_second_script_shares_the_wheels(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "shared")
    make_wheel(packages, "extra")
    factory.build(factory.script("shared", name="one"))
    before = snapshot(factory.bundle)["wheels/shared-1.0-py3-none-any.whl"]
    factory.index.requests.clear()
    factory.build(factory.script("shared", "extra", name="two"))
    assert snapshot(factory.bundle)["wheels/shared-1.0-py3-none-any.whl"] == before
    assert [request.path.rpartition("/")[2] for request in factory.index.requests_for("*.whl")] == [
        "extra-1.0-py3-none-any.whl"
    ]
    assert set(factory.manifest.scripts) == {"one", "two"}
    assert factory.manifest.files["wheels/shared-1.0-py3-none-any.whl"].needed_by == (
        f"one/{TARGET}",
        f"two/{TARGET}",
    )
    raise_for_problems(verify(factory.bundle))


def test_several_scripts_and_targets_in_one_call(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "leaf")
    for tag in (
        "cp312-cp312-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp312-cp312-win_amd64",
        "cp311-cp311-win_amd64",
    ):
        make_wheel(packages, "native", tag=tag)
    one, two = factory.script("leaf", name="one"), factory.script("native", name="two")
    for script in (one, two):
        script.write_text(script.read_text().replace(f"=={HERE}.*", ">=3.11"))
    factory.build(
        one, two, python_versions=("3.11", "3.12"), platforms=("x86_64-manylinux_2_28", "windows")
    )
    manifest = factory.manifest
    expected = {
        f"cp{python}-{platform}"
        for python in ("311", "312")
        for platform in ("x86_64-manylinux_2_28", "x86_64-pc-windows-msvc")
    }
    assert set(manifest.targets) == expected
    assert set(manifest.scripts["one"].locks) == set(manifest.scripts["two"].locks) == expected
    assert manifest.scripts["two"].locks["cp312-x86_64-manylinux_2_28"].libc == "2.17"
    assert (
        manifest.scripts["two"]
        .locks["cp312-x86_64-pc-windows-msvc"]
        .packages["native"]
        .wheel.endswith("win_amd64.whl")
    )
    raise_for_problems(verify(factory.bundle))


def test_other_targets_of_an_unchanged_script_stay_and_those_of_a_changed_one_go(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    make_wheel(packages, "more")
    script = factory.script("leaf")
    factory.build(script)
    factory.build(script, platforms=("windows",))
    windows = f"cp{HERE.replace('.', '')}-x86_64-pc-windows-msvc"
    assert set(factory.manifest.scripts["job"].locks) == {TARGET, windows}
    factory.build(factory.script("leaf", "more"))
    assert set(factory.manifest.scripts["job"].locks) == {TARGET}
    assert not list((factory.bundle / "locks/job").glob(f"*{windows}*"))
    raise_for_problems(verify(factory.bundle))


def test_an_update_killed_before_it_replaces_a_file_leaves_the_old_bundle_whole(
    factory: Factory, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks have new paths; index pages are replaced at the end, right before the manifest."""
    make_wheel(packages, "leaf")
    script = factory.script("leaf", body="import leaf\nprint('ran')\n")
    factory.build(script)
    before, old = digests(factory.bundle), factory.manifest
    make_wheel(packages, "leaf", "2.0")
    replace_file = SafeFolder.replace

    def kill(folder: SafeFolder, source: str, target: str) -> None:
        if target in old.files:
            raise KeyboardInterrupt
        replace_file(folder, source, target)

    monkeypatch.setattr(SafeFolder, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        factory.build(script)
    monkeypatch.undo()
    report = verify(factory.bundle)
    raise_for_problems(report, allow_pending=True)
    assert any(path.startswith("locks/job/pylock.") for path in report.pending)
    assert digests(factory.bundle).items() >= before.items()
    done = subprocess.run(
        [sys.executable, factory.bundle / "run.py", script], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"ran\n"), done.stderr
    factory.build(script)
    raise_for_problems(verify(factory.bundle))
    assert factory.manifest.scripts["job"].locks[TARGET].packages["leaf"].version == "2.0"
    assert old.scripts["job"].locks[TARGET].lock not in digests(factory.bundle)


def test_a_changed_body_changes_only_the_script(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "leaf")
    factory.build(factory.script("leaf"))
    before = snapshot(factory.bundle)
    factory.build(factory.script("leaf", body="print('new')\n"))
    after = snapshot(factory.bundle)
    changed = {path for path in after if after[path] != before[path]}
    assert changed == {
        "scripts/job.py",
        "bundle.json",
        "SHA256SUMS",
        "report.html",
        "sbom.cdx.json",
    }


def test_the_same_name_with_other_bytes_is_refused_and_nothing_changes(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    factory.build(factory.script("leaf"))
    before = snapshot(factory.bundle)
    make_wheel(packages, "leaf", files={"leaf_more.py": "x = 1\n"})
    os.environ["UV_CACHE_DIR"] = str(factory.folder / "fresh")
    try:
        text = factory.fails(IntegrityError, factory.script("leaf", name="two"))
    finally:
        del os.environ["UV_CACHE_DIR"]
    assert "leaf-1.0-py3-none-any.whl: sha256" in text
    assert snapshot(factory.bundle) == before


def test_a_failed_first_build_leaves_no_folder(factory: Factory) -> None:
    factory.fails(ResolveError, factory.script("no-such-package"))
    assert not factory.bundle.exists()


def test_a_wrong_hash_stores_nothing(factory: Factory, packages: Path) -> None:
    wheel = make_wheel(packages, "leaf")
    factory.index.fault(f"*{wheel.name}", Fault.wrong_bytes(b"x" * wheel.stat().st_size))
    factory.index.has_metadata = True
    text = factory.fails(FetchError, factory.script("leaf"))
    assert wheel.name in text
    assert not factory.bundle.exists()


def test_the_closure_is_held_against_the_real_wheels(factory: Factory, packages: Path) -> None:
    """The index's PEP 658 copy says the package needs nothing; the wheel itself needs more."""
    wheel = make_wheel(packages, "liar", requires=["surprise"])
    honest = b"Metadata-Version: 2.1\nName: liar\nVersion: 1.0\n"
    factory.index.describe(wheel.name, core_metadata=True)
    factory.index.fault(f"*{wheel.name}.metadata", Fault.wrong_bytes(honest))
    text = factory.fails(FetchError, factory.script("liar"))
    assert "liar 1.0 requires surprise, which is not in the lock" in text


def test_errors_of_all_scripts_come_together(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "leaf")
    text = factory.fails(
        ResolveError,
        factory.script("leaf", name="fine"),
        factory.script("missing-a", name="one"),
        factory.script("missing-b", name="two"),
    )
    assert "missing-a" in text
    assert "missing-b" in text


def test_a_script_without_dependencies_makes_a_bundle_too(factory: Factory) -> None:
    factory.build(factory.script())
    assert factory.manifest.scripts["job"].locks[TARGET].packages == {}
    raise_for_problems(verify(factory.bundle))


def test_a_path_source_of_the_users_own_is_built_without_a_flag(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "leaf")
    tree = make_source_tree(tmp_path / "own", "own", "3.1", requires=["leaf"])
    (tree / "build").mkdir()
    with (tree / "backend.py").open("a") as file:
        file.write("build_editable = build_wheel\n")
    script = factory.script(
        "own", tool='[tool.uv.sources]\nown = { path = "own", editable = true }'
    )
    report = factory.build(script)
    assert report.built == ("own-3.1-py3-none-any.whl",)
    file = factory.manifest.files["wheels/own-3.1-py3-none-any.whl"]
    assert file.source
    assert (file.source.path, len(file.source.built_from or "")) == ("own", 64)
    assert str(tmp_path) not in (factory.bundle / "bundle.json").read_text()
    before = snapshot(factory.bundle)
    assert not factory.build(script).changed
    assert snapshot(factory.bundle) == before


def test_a_changed_path_source_of_the_same_version_is_refused(
    factory: Factory, tmp_path: Path
) -> None:
    make_source_tree(tmp_path / "own", "own", declared=[])
    script = factory.script("own", tool='[tool.uv.sources]\nown = { path = "own" }')
    factory.build(script)
    (tmp_path / "own/own.py").write_text("VERSION = 'changed'\n")
    assert "give your own package a new version" in factory.fails(IntegrityError, script)


def test_a_git_source_is_built_where_allowed(factory: Factory, tmp_path: Path) -> None:
    repository = make_repository(
        make_source_tree(tmp_path / "repository", "vcs", declared=[], code=trap(tmp_path))
    )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    script = factory.script(
        "vcs", tool=f'[tool.uv.sources]\nvcs = {{ git = "{repository.as_uri()}" }}'
    )
    text = factory.fails(FetchError, script)
    assert "vcs (" in text
    assert "--allow-build vcs" in text
    assert not (tmp_path / "it-ran").exists()
    factory.build(script, allow=("vcs",))
    assert (tmp_path / "it-ran").exists()
    source = factory.manifest.files["wheels/vcs-1.0-py3-none-any.whl"].source
    assert source
    assert (source.git, source.commit) == (repository.as_uri(), commit)


def test_an_sdist_is_built_where_allowed_and_only_once(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    make_buildable_sdist(packages, "source", code=trap(tmp_path))
    script = factory.script("source")
    assert "--allow-build source" in factory.fails(FetchError, script)
    assert not (tmp_path / "it-ran").exists()
    factory.build(script, allow=("source",))
    before = snapshot(factory.bundle)
    (tmp_path / "it-ran").unlink()
    factory.build(script, allow=("source",))
    assert snapshot(factory.bundle) == before
    assert not (tmp_path / "it-ran").exists()


def test_a_lying_sdist_is_found_out(factory: Factory, packages: Path) -> None:
    make_buildable_sdist(packages, "liar", requires=["surprise"], declared=[])
    assert "liar 1.0 requires surprise" in factory.fails(
        FetchError, factory.script("liar"), allow=("liar",)
    )


def test_nothing_is_built_for_another_machine(factory: Factory, packages: Path) -> None:
    make_buildable_sdist(packages, "source", declared=[])
    text = factory.fails(
        FetchError, factory.script("source"), allow=("source",), platforms=("windows",)
    )
    assert "which this machine cannot do" in text


def test_a_build_that_fails_shows_its_own_last_words(factory: Factory, packages: Path) -> None:
    make_buildable_sdist(
        packages, "broken", declared=[], code="raise RuntimeError('no compiler here')"
    )
    assert "no compiler here" in factory.fails(
        FetchError, factory.script("broken"), allow=("broken",)
    )


def test_yanked_and_its_reason_reach_the_index(factory: Factory, packages: Path) -> None:
    wheel = make_wheel(packages, "pulled")
    factory.index.describe(wheel.name, yanked="broken on Tuesdays")
    report = factory.build(factory.script("pulled==1.0"))
    assert factory.manifest.files[f"wheels/{wheel.name}"].yanked == "broken on Tuesdays"
    assert (
        'data-yanked="broken on Tuesdays"'
        in (factory.bundle / "simple/pulled/index.html").read_text()
    )
    assert any("yanked" in note for note in report.notes)


def test_secrets_are_nowhere_in_the_bundle(packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "leaf")
    with IndexServer(packages, username="kate", password="s3cr3t-word") as server:
        factory = Factory(tmp_path, server)
        factory.build(
            factory.script("leaf"),
            options=ResolveOptions(default_index=server.url_with_credentials()),
        )
    for path in factory.bundle.rglob("*"):
        assert not path.is_file() or b"s3cr3t-word" not in path.read_bytes(), path


def test_a_script_may_name_its_index_and_the_environment_its_credentials(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "leaf")
    with IndexServer(packages, username="kate", password="s3cr3t-word") as server:
        monkeypatch.setenv("UV_INDEX_OWN_USERNAME", "kate")
        monkeypatch.setenv("UV_INDEX_OWN_PASSWORD", "s3cr3t-word")
        factory = Factory(tmp_path, server)
        tool = f'[[tool.uv.index]]\nname = "own"\nurl = "{server.url}"\ndefault = true'
        factory.build(factory.script("leaf", tool=tool), options=ResolveOptions())
        assert factory.manifest.files["wheels/leaf-1.0-py3-none-any.whl"].source


def test_a_missing_file_of_the_bundle_is_brought_back(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "leaf")
    script = factory.script("leaf")
    factory.build(script)
    before = digests(factory.bundle)
    (factory.bundle / "wheels/leaf-1.0-py3-none-any.whl").unlink()
    (factory.bundle / "simple/leaf/index.html").unlink()
    (factory.bundle / "SHA256SUMS").write_text("")
    assert factory.build(script).changed
    assert digests(factory.bundle) == before
    metadata = factory.bundle / "wheels/leaf-1.0-py3-none-any.whl.metadata"
    metadata.unlink()
    assert factory.build(script).changed
    assert digests(factory.bundle) == before
    metadata.write_bytes(metadata.read_bytes().replace(b"Name: leaf", b"Name: LEAF"))
    assert factory.build(script).changed
    assert digests(factory.bundle) == before


def test_a_damaged_file_that_only_another_script_needs_is_named(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    make_wheel(packages, "other")
    factory.build(factory.script("leaf"))
    (factory.bundle / "wheels/leaf-1.0-py3-none-any.whl").unlink()
    text = factory.fails(IntegrityError, factory.script("other", name="two"))
    assert "wheels/leaf-1.0-py3-none-any.whl" in text
    (factory.bundle / "wheels/leaf-1.0-py3-none-any.whl.metadata").unlink()
    text = factory.fails(IntegrityError, factory.script("other", name="two"))
    assert "wheels/leaf-1.0-py3-none-any.whl.metadata" in text


def test_an_index_without_hashes_is_served_too(factory: Factory, tmp_path: Path) -> None:
    """A folder of wheels has no hashes to offer: they are made on the way in."""
    wheel = make_wheel(tmp_path / "links", "leaf")
    factory.build(
        factory.script("leaf"),
        options=ResolveOptions(
            find_links=(str(tmp_path / "links"),), default_index=factory.index.url
        ),
    )
    file = factory.manifest.files[f"wheels/{wheel.name}"]
    assert file.sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps((factory.bundle / "bundle.json").read_text())


@pytest.mark.skipif(
    not host_platform().startswith("x86_64-manylinux"),
    reason="the wheel made here is for x86_64 Linux",
)
def test_uv_for_the_nodes_comes_out_of_its_own_wheel_and_stays_at_the_chosen_version(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    for version in ("0.1.0", "0.2.0"):
        make_uv_wheel(packages, version)
    script = factory.script("leaf")

    def build_with(version: str, **choice: bool) -> str:
        factory.build(script, uv_version=version, **choice)
        raise_for_problems(verify(factory.bundle))
        [executable] = (factory.bundle / "uv").rglob("uv")  # the replaced one is removed
        digest = sha256_of(executable)[:16]
        assert executable.relative_to(factory.bundle).as_posix() == factory.manifest.uv[UV].path
        assert factory.manifest.uv[UV].path == f"uv/{UV}/{digest}/uv"
        return subprocess.run(
            [executable], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert build_with("0.1.0") == "uv 0.1.0"
    assert build_with("0.2.0", is_uv_default=True) == "uv 0.1.0"
    assert build_with("0.2.0") == "uv 0.2.0"
    text = factory.fails(ResolveError, script, uv_version="9.9.9")
    assert "the uv for the nodes" in text
    assert "--no-uv" in text


def test_uv_for_the_nodes_never_comes_from_an_index_of_a_script_or_its_project(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "leaf")
    make_uv_wheel(packages, "0.1.0")
    others = tmp_path / "others"
    others.mkdir()
    make_wheel(others, "leaf", "2.0")
    make_uv_wheel(others, "0.1.0")
    unreachable = "http://127.0.0.1:9/simple/"
    with IndexServer(others) as other:
        entries = [f'[[tool.uv.index]]\nurl = "{other.url}"', f'extra-index-url = ["{other.url}"]']
        for entry in (entries[0], f"[tool.uv]\n{entries[1]}"):
            factory.build(factory.script("leaf", tool=entry), uv_version="0.1.0")
            assert list(factory.manifest.scripts["job"].locks[TARGET].packages) == ["leaf"]
            assert other.requests_for("*leaf*")
            assert not other.requests_for("*uv*")
            shutil.rmtree(factory.bundle)
    # an index that is bound to one package, and a project's file: neither is asked for uv
    source = '[tool.uv.sources]\nleaf = { index = "mine" }'
    index = f'[[tool.uv.index]]\nname = "mine"\nurl = "{factory.index.url}"\nexplicit = true'
    (tmp_path / "uv.toml").write_text(f'[[index]]\nname = "gone"\nurl = "{unreachable}"\n')
    script = factory.script("leaf", tool=f"{source}\n{index}")
    factory.build(script, uv_version="0.1.0")
    assert factory.manifest.uv


def test_missing_uv_for_the_nodes_names_no_file_that_does_not_exist(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    text = factory.fails(ResolveError, factory.script("leaf"), uv_version="9.9.9")
    assert "the uv for the nodes: uv cannot be resolved for" in text
    assert str(factory.folder) not in text
    assert "--default-index" in text


def test_everything_may_be_allowed_to_be_built(factory: Factory, packages: Path) -> None:
    make_buildable_sdist(packages, "one", requires=["two"], declared=["two"])
    make_buildable_sdist(packages, "two", declared=[])
    report = factory.build(factory.script("one"), allow=(":all:",))
    assert sorted(report.built) == ["one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"]


def test_a_requirement_of_later_patch_releases_or_kernels_is_a_note(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    marker = f"; python_full_version >= '{HERE}.50'"
    kernel = "; platform_release >= '6'"
    make_wheel(packages, "top", requires=[f"leaf{marker}", f"other{kernel}"])
    script = factory.script("top")
    notes = factory.build(script).notes
    [note] = [note for note in notes if "on some kernels" in note]
    assert "top 1.0 requires other; " in note
    [note] = [note for note in notes if "on some releases" in note]
    assert f"on some releases of Python {HERE}, top 1.0 requires leaf; " in note
    assert f"the bundle is resolved for {HERE}.0; set requires-python" in note
    text = script.read_text().replace(f'"=={HERE}"', f'"=={HERE}.*,>={HERE}.50"')
    script.write_text(text)
    assert not [note for note in factory.build(script).notes if "on some releases" in note]


def with_last_launcher(bundle: Path) -> None:
    """Give *bundle* the launcher's files of the version before `runtime/`."""
    manifest = read_manifest(bundle)
    files = dict(manifest.files)
    for path in [path for path in files if path == "run.py" or path.startswith("runtime/")]:
        (bundle / path).unlink()
        del files[path]
    for name in ("run.py", "prepare.py", "policy.py", "interpreter.py"):
        content = f"# {name} of an earlier version\n".encode()
        (bundle / name).write_bytes(content)
        files[name] = file_entry(content)
    manifest = replace(manifest, files=files, created_by="offline-bundle 0.0.1")
    document = manifest.to_json()
    (bundle / "bundle.json").write_bytes(document)
    (bundle / "SHA256SUMS").write_bytes(render_checksums(manifest, document))


def test_a_build_replaces_the_launcher_of_the_last_version(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = factory.script("leaf")
    factory.build(script)
    expected = digests(factory.bundle)
    with_last_launcher(factory.bundle)
    raise_for_problems(verify(factory.bundle))
    assert factory.build(script).changed
    raise_for_problems(verify(factory.bundle))
    found = digests(factory.bundle)
    generated = {"bundle.json", "SHA256SUMS", "report.html", "sbom.cdx.json"}
    assert found.keys() == expected.keys()
    assert {path for path in found if found[path] != expected[path]} <= generated
    assert not factory.build(script).changed


def test_locked_and_check_accept_a_bundle_of_the_last_version(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = factory.script("leaf")
    factory.build(script)
    with_last_launcher(factory.bundle)
    factory.build(script, is_locked=True)
    assert not (factory.bundle / "prepare.py").exists()
    raise_for_problems(verify(factory.bundle))


def test_an_empty_source_date_epoch_counts_as_unset(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source_tree(tmp_path / "own", "own")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    script = factory.script("own", tool='[tool.uv.sources]\nown = { path = "own" }')
    assert factory.build(script).built


def test_a_script_that_replaces_another_of_its_name_is_noted(
    factory: Factory, packages: Path
) -> None:
    for name in ("leaf", "twig"):
        make_wheel(packages, name)
    factory.build(factory.script("leaf"))
    assert " replaces the script" not in str(factory.build(factory.script("leaf")).notes)
    notes = factory.build(factory.script("twig")).notes
    assert any(
        note.endswith("replaces the script job of the bundle: now needs twig; no longer needs leaf")
        for note in notes
    )


def test_a_build_under_a_private_umask_is_noted(factory: Factory) -> None:
    mask = os.umask(0o077)
    try:
        notes = factory.build(factory.script()).notes
    finally:
        os.umask(mask)
    assert any("only you can read" in note for note in notes)
