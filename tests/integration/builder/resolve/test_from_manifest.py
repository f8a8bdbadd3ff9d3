"""`build --locked`: the same bundle again from its locks, and a uv lock beside a script."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import (
    FetchError,
    InputError,
    IntegrityError,
    OutOfDateError,
)
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from tests.support.distributions import make_buildable_sdist, make_source_tree, make_wheel
from tests.support.pipeline_cases import HERE, TARGET, Factory, digests, make_uv_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.index_server import IndexServer


@pytest.fixture
def factory(tmp_path: Path, index: IndexServer) -> Factory:
    return Factory(tmp_path, index)


def clone(factory: Factory, *kept: str) -> Path:
    """What version control holds of the bundle, checked out elsewhere; another machine has no cache
    of ours either.
    """
    place = factory.folder / "checkout" / "bundle"
    for name in ("bundle.json", *kept):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(factory.bundle / name, place / name)
    return place


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "another-cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another-uv-cache"))


def build_everything(factory: Factory, packages: Path) -> list[Path]:
    """Build two scripts for two targets, with uv, dates, a yanked wheel, and one that only one
    target needs.
    """
    make_uv_wheel(packages, "1.0")
    wheel = make_wheel(
        packages, "leaf", requires=["twig; sys_platform == 'win32'"], requires_python=">=3.8"
    )
    factory.index.describe(wheel.name, upload_time="2025-03-04T05:06:07.890000Z", yanked="old")
    make_wheel(packages, "twig")
    make_wheel(packages, "other")
    scripts = [factory.script("leaf==1.0"), factory.script("other", name="two")]
    make_wheel(
        packages, "uv", "1.0", tag="py3-none-win_amd64", files={"uv-1.0.data/scripts/uv.exe": "uv"}
    )
    platforms = ("x86_64-manylinux_2_28", "windows")
    factory.build(*scripts, platforms=platforms, uv_version="1.0")
    return scripts


@pytest.mark.usefixtures("no_cache")
def test_bundle_json_alone_brings_the_whole_bundle_back_byte_for_byte(
    factory: Factory, packages: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripts = build_everything(factory, packages)
    place = clone(factory)
    for name in ("leaf", "other", "uv"):
        make_wheel(packages, name, "9.0")
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "third-cache"))
    factory.index.requests.clear()
    report = factory.build(*scripts, output=place, is_locked=True)
    assert digests(place) == digests(factory.bundle)
    assert (report.changed, report.fetched) == (True, 5)
    assert factory.index.requests_for("/simple/*") == []
    assert not factory.build(*scripts, output=place, is_locked=True).changed


def test_a_whole_bundle_is_left_alone_and_damage_is_made_good(
    factory: Factory, packages: Path
) -> None:
    scripts = build_everything(factory, packages)
    make_wheel(packages, "other", "9.0")
    before = digests(factory.bundle)
    assert not factory.build(scripts[0], is_locked=True).changed
    leaf = factory.bundle / "wheels/leaf-1.0-py3-none-any.whl"
    content = bytearray(leaf.read_bytes())
    content[-30] ^= 1
    leaf.unlink()
    leaf.write_bytes(content)
    for name in (
        "wheels/twig-1.0-py3-none-any.whl.metadata",
        "simple/leaf/index.html",
        "sbom.cdx.json",
    ):
        (factory.bundle / name).write_text("damaged")
    (factory.bundle / "report.html").unlink()
    (factory.bundle / factory.manifest.uv["x86_64-manylinux_2_17"].path).write_text("uv 6.66")
    assert factory.build(*scripts, is_locked=True).changed
    assert digests(factory.bundle) == before
    raise_for_problems(verify(factory.bundle))


def test_a_changed_body_comes_in_and_a_changed_header_is_out_of_date(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    factory.build(factory.script("leaf"))
    make_wheel(packages, "leaf", "2.0")
    assert factory.build(factory.script("leaf", body="print()\n"), is_locked=True).changed
    assert factory.manifest.scripts["job"].locks[TARGET].packages["leaf"].version == "1.0"
    assert (factory.bundle / "scripts/job.py").read_text().endswith("print()\n")
    text = factory.fails(
        OutOfDateError,
        factory.script("leaf>=1", tool="[tool.uv]\nprerelease = 'allow'"),
        is_locked=True,
    )
    assert "job.py: now needs leaf>=1" in text
    assert "job.py: no longer needs leaf\n" in text
    assert "job.py: its [tool.uv] settings changed" in text


def test_targets_scripts_and_uv_that_the_bundle_lacks_are_named(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    make_uv_wheel(packages, "1.0")
    script = factory.script("leaf")
    text = factory.fails(OutOfDateError, script, is_locked=True)
    assert "job.py: not in the bundle, and there is no job.py.lock beside it" in text
    assert not factory.bundle.exists()
    factory.build(script, uv_version="1.0")
    text = factory.fails(
        OutOfDateError,
        script,
        factory.script("leaf", name="two"),
        platforms=("windows",),
        is_locked=True,
    )
    assert f"job.py: cp{HERE.replace('.', '')}-x86_64-pc-windows-msvc is not in the bundle" in text
    assert "two.py: not in the bundle" in text
    text = factory.fails(OutOfDateError, script, is_locked=True, uv_version="2.0")
    assert "uv 2.0 is not in the bundle" in text


@pytest.mark.usefixtures("no_cache")
def test_other_scripts_of_the_bundle_must_be_given_where_only_the_manifest_is_left(
    factory: Factory, packages: Path
) -> None:
    scripts = build_everything(factory, packages)
    text = factory.fails(OutOfDateError, scripts[0], output=clone(factory), is_locked=True)
    assert "two: scripts/two.py" in text
    assert "name these scripts too" in text


@pytest.mark.usefixtures("no_cache")
def test_a_bundle_with_a_history_needs_its_report_kept_too(
    factory: Factory, packages: Path
) -> None:
    """The report tells what changed since the bundle before; the wheel that an update left over
    comes back as well.
    """
    make_wheel(packages, "leaf")
    script = factory.script("leaf")
    factory.build(script)
    make_wheel(packages, "leaf", "2.0")
    factory.build(script)
    text = factory.fails(OutOfDateError, script, output=clone(factory), is_locked=True)
    assert "report.html cannot be made again from bundle.json alone" in text
    place = clone(factory, "report.html")
    factory.build(script, output=place, is_locked=True)
    assert digests(place) == digests(factory.bundle)
    assert (place / "wheels/leaf-1.0-py3-none-any.whl").is_file()


@pytest.mark.usefixtures("no_cache")
def test_what_was_built_is_built_again_where_allowed_or_kept(
    factory: Factory, packages: Path, tmp_path: Path
) -> None:
    make_buildable_sdist(packages, "archived")
    make_source_tree(tmp_path / "own", "own")
    script = factory.script("archived", "own", tool="[tool.uv.sources]\nown = { path = './own' }")
    factory.build(script, allow=("archived",))
    own = "wheels/own-1.0-py3-none-any.whl"
    text = factory.fails(
        FetchError, script, output=clone(factory), is_locked=True, allow=("archived",)
    )
    assert f"{own}: it was built from own" in text
    assert "keep these wheels beside bundle.json" in text
    place = clone(factory, own)
    assert "--allow-build archived" in factory.fails(
        FetchError, script, output=place, is_locked=True
    )
    factory.build(script, output=place, is_locked=True, allow=("archived",))
    assert digests(place) == digests(factory.bundle)


@pytest.mark.usefixtures("no_cache")
def test_other_bytes_under_a_locked_name_are_refused(
    factory: Factory, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "leaf")
    make_uv_wheel(packages, "1.0")
    script = factory.script("leaf")
    factory.build(script, uv_version="1.0")
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "third-cache"))
    uv = next(packages.glob("uv-1.0-*"))
    tag = uv.name.removeprefix("uv-1.0-").removesuffix(".whl")
    make_wheel(packages, "uv", "1.0", tag=tag, files={"uv-1.0.data/scripts/uv": "evil"})
    place = clone(factory)
    assert factory.manifest.uv["x86_64-manylinux_2_17"].path in factory.fails(
        IntegrityError, script, output=place, is_locked=True
    )
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "fourth-cache"))
    make_wheel(packages, "leaf", padding=1)
    text = factory.fails(FetchError, script, output=place, is_locked=True)
    assert "leaf-1.0-py3-none-any.whl" in text
    assert {path.name for path in place.iterdir()} <= {"bundle.json", ".writer"}


def lock_script(factory: Factory, script: Path) -> None:
    command = [
        find_uv(),
        "lock",
        "--script",
        str(script),
        "--default-index",
        factory.index.url,
        "--python",
        sys.executable,
    ]
    subprocess.run(command, check=True, capture_output=True)


def packages_of(factory: Factory) -> dict[str, str]:
    packages = factory.manifest.scripts["job"].locks[TARGET].packages
    return {name: package.version for name, package in packages.items()}


def test_a_uv_lock_beside_the_script_decides_the_versions(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "leaf", requires=["twig", "never; sys_platform == 'win32'"])
    make_wheel(packages, "twig")
    make_wheel(packages, "never")
    script = factory.script("leaf")
    lock_script(factory, script)
    make_wheel(packages, "leaf", "2.0")
    make_wheel(packages, "twig", "2.0")
    for is_locked in (False, True):
        report = factory.build(script, is_locked=is_locked)
        assert packages_of(factory) == {"leaf": "1.0", "twig": "1.0"}
        assert report.notes == (
            () if is_locked else (f"{script}: the versions are those of job.py.lock",)
        )
    shutil.rmtree(factory.bundle)
    factory.build(script, is_locked=True)
    assert packages_of(factory) == {"leaf": "1.0", "twig": "1.0"}


def test_a_stale_uv_lock_is_not_used_and_out_of_date_where_locks_are_asked_for(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    lock_script(factory, factory.script("leaf"))
    make_wheel(packages, "leaf", "2.0")
    script = factory.script("leaf>=2")
    assert "job.py.lock is out of date" in factory.fails(OutOfDateError, script, is_locked=True)
    [note] = factory.build(script).notes
    assert note == f"{script}.lock is out of date, and not used; renew it with `uv lock --script`"
    assert packages_of(factory) == {"leaf": "2.0"}


def test_a_uv_lock_that_is_broken_or_pins_other_bytes_is_refused(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = factory.script("leaf")
    lock_script(factory, script)
    make_wheel(packages, "leaf", padding=1)
    text = factory.fails(IntegrityError, script)
    assert "leaf-1.0-py3-none-any.whl: expected sha256" in text
    (factory.folder / "job.py.lock").write_text("version = [")
    assert "job.py.lock cannot be used" in factory.fails(InputError, script)
