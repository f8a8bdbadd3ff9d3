from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.inputs.scripts import read_script
from offline_bundle.builder.inputs.targets import make_target
from offline_bundle.builder.resolve import uv
from offline_bundle.builder.resolve.model import Resolution, ResolveOptions
from offline_bundle.builder.resolve.select import select_artifacts
from offline_bundle.builder.resolve.uv import UvResolver
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    NotBuiltError,
    ResolveError,
)
from tests.support.distributions import make_buildable_sdist, make_source_tree, make_wheel
from tests.support.index_server import Fault, IndexServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.inputs.targets import Target
from tests.support.uv_cases import Workshop, make_repository, trap, workshop

__all__ = ["workshop"]


def versions(resolution: Resolution) -> dict[str, str]:
    return {package.name: str(package.version) for package in resolution.lock.packages}


def test_the_whole_closure_is_locked(workshop: Workshop, packages: Path) -> None:
    make_wheel(
        packages,
        "top",
        requires=["middle>=1; python_version >= '3.8'", "never; sys_platform == 'win32'"],
    )
    make_wheel(packages, "middle", "1.5")
    make_wheel(packages, "middle", "0.9")
    assert versions(workshop.resolve(workshop.script("top"))) == {"top": "1.0", "middle": "1.5"}


def test_requires_python_of_two_parts_means_the_minor(workshop: Workshop, packages: Path) -> None:
    make_wheel(packages, "top")
    assert workshop.resolve(workshop.script("top", python="==3.12")).full_version == "3.12.0"


def test_wheels_for_the_target_are_found_whatever_the_host_is(
    workshop: Workshop, packages: Path
) -> None:
    make_wheel(packages, "native", tag="cp312-cp312-macosx_11_0_arm64")
    make_wheel(packages, "native", tag="cp312-cp312-win_amd64")
    resolution = workshop.resolve(workshop.script("native"), platform="x86_64-pc-windows-msvc")
    assert [choice.filename for choice in select_artifacts(resolution)] == [
        "native-1.0-cp312-cp312-win_amd64.whl"
    ]


def test_exclude_newer_of_the_script_holds(workshop: Workshop, packages: Path) -> None:
    workshop.index.describe(
        make_wheel(packages, "dated", "1.0").name, upload_time="2024-01-01T00:00:00Z"
    )
    workshop.index.describe(
        make_wheel(packages, "dated", "2.0").name, upload_time="2025-01-01T00:00:00Z"
    )
    tool = '[tool.uv]\nexclude-newer = "2024-06-01T00:00:00Z"'
    assert versions(workshop.resolve(workshop.script("dated", tool=tool))) == {"dated": "1.0"}
    assert versions(workshop.resolve(workshop.script("dated"))) == {"dated": "2.0"}
    assert versions(
        workshop.resolve(workshop.script("dated"), exclude_newer="2024-06-01T00:00:00Z")
    ) == {"dated": "1.0"}


def test_constraints_overrides_resolution_and_prerelease_of_the_script_hold(
    workshop: Workshop, packages: Path
) -> None:
    for version in ("1.0", "2.0", "3.0rc1"):
        make_wheel(packages, "thing", version)
    make_wheel(packages, "user", requires=["thing<2"])
    expectations = {
        'constraint-dependencies = ["thing<2"]': "1.0",
        'override-dependencies = ["thing==3.0rc1"]': "3.0rc1",
        'resolution = "lowest"': "1.0",
        'prerelease = "allow"': "3.0rc1",
    }
    for line, version in expectations.items():
        assert (
            versions(workshop.resolve(workshop.script("thing", tool=f"[tool.uv]\n{line}")))["thing"]
            == version
        )


def test_a_package_pinned_to_an_index_comes_from_there_and_from_nowhere_else(
    workshop: Workshop, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "internal", "99.0")
    private = tmp_path / "private"
    make_wheel(private, "internal", "1.0")
    with IndexServer(private) as own:
        tool = f'[[tool.uv.index]]\nname = "own"\nurl = "{own.url}"\nexplicit = true\n'
        tool += '[tool.uv.sources]\ninternal = { index = "own" }'
        resolution = workshop.resolve(workshop.script("internal", tool=tool))
        assert versions(resolution) == {"internal": "1.0"}
        (private / "internal-1.0-py3-none-any.whl").unlink()
        (tmp_path / "cache").mkdir()
        os.environ["UV_CACHE_DIR"] = str(tmp_path / "cache")
        try:
            assert "internal" in workshop.fails(
                workshop.script("internal", tool=tool), ResolveError
            )
        finally:
            del os.environ["UV_CACHE_DIR"]
    assert not workshop.index.requests_for("*internal*")


def test_a_local_source_is_never_replaced_by_an_index(
    workshop: Workshop, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "mine", "99.0")
    make_source_tree(tmp_path / "mine", "mine", "1.0", declared=[])
    tool = '[tool.uv.sources]\nmine = { path = "mine" }'
    [choice] = select_artifacts(workshop.resolve(workshop.script("mine", tool=tool)))
    assert (choice.kind, choice.location, choice.is_local) == (
        "directory",
        str(tmp_path / "mine"),
        True,
    )
    assert not workshop.index.requests_for("*mine*")


def test_relative_places_are_the_scripts_not_the_working_folders(
    workshop: Workshop, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path / "wheels", "found")
    make_wheel(tmp_path / "wheels", "linked", "3.0")
    monkeypatch.chdir(packages)
    tool = '[tool.uv]\nfind-links = ["./wheels"]'
    assert versions(workshop.resolve(workshop.script("found", tool=tool))) == {"found": "1.0"}
    link = "linked @ ./wheels/linked-3.0-py3-none-any.whl"
    [choice] = select_artifacts(workshop.resolve(workshop.script(link)))
    assert (choice.kind, choice.is_local) == ("wheel", True)
    assert choice.location.endswith("linked-3.0-py3-none-any.whl")


def test_the_users_configuration_counts(workshop: Workshop, packages: Path, own_home: Path) -> None:
    make_wheel(packages, "thing", "1.0")
    make_wheel(packages, "thing", "2.0")
    configuration = own_home / ".config/uv/uv.toml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(
        f'resolution = "lowest"\n[[index]]\nurl = "{workshop.index.url}"\ndefault = true\n'
    )
    assert versions(workshop.resolve(workshop.script("thing"), default=False)) == {"thing": "1.0"}


def test_a_configuration_file_named_by_the_environment_does_not_switch_off_the_scripts_settings(
    workshop: Workshop, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "thing", "1.0")
    make_wheel(packages, "thing", "2.0")
    make_wheel(tmp_path / "elsewhere" / "more", "other")
    named = tmp_path / "elsewhere" / "site.toml"
    named.write_text(
        f'find-links = ["./more"]\n[[index]]\nurl = "{workshop.index.url}"\ndefault = true\n'
    )
    monkeypatch.setenv("UV_CONFIG_FILE", str(named))
    tool = '[tool.uv]\nconstraint-dependencies = ["thing<2"]'
    script = workshop.script("thing", "other", tool=tool)
    assert versions(workshop.resolve(script, default=False)) == {"thing": "1.0", "other": "1.0"}


def test_no_config_does_not_switch_off_the_scripts_settings(
    workshop: Workshop, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "thing", "1.0")
    make_wheel(packages, "thing", "2.0")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert versions(
        workshop.resolve(
            workshop.script("thing", tool='[tool.uv]\nconstraint-dependencies = ["thing<2"]')
        )
    ) == {"thing": "1.0"}


def test_flags_count(workshop: Workshop, packages: Path, tmp_path: Path) -> None:
    make_wheel(packages, "thing", "1.0")
    make_wheel(packages, "thing", "2.0")
    make_wheel(tmp_path / "more", "other")
    (tmp_path / "constraints.txt").write_text("thing<2\n")
    options = {
        "constraints": (tmp_path / "constraints.txt",),
        "find_links": (str(tmp_path / "more"),),
    }
    assert versions(workshop.resolve(workshop.script("thing", "other"), **options)) == {
        "thing": "1.0",
        "other": "1.0",
    }  # type: ignore[arg-type]


def test_the_unresolvable_is_told_in_uvs_own_words(workshop: Workshop, packages: Path) -> None:
    make_wheel(packages, "a", requires=["c<2"])
    make_wheel(packages, "b", requires=["c>=2"])
    make_wheel(packages, "c", "1.0")
    make_wheel(packages, "c", "2.0")
    text = workshop.fails(workshop.script("a", "b"), ResolveError)
    assert "job.py cannot be resolved for cp312-x86_64-manylinux_2_28" in text
    assert "we can conclude that" in text
    assert "offline-bundle-" not in text


def test_an_unknown_package_is_named(workshop: Workshop) -> None:
    assert "no-such-thing was not found" in workshop.fails(
        workshop.script("no-such-thing"), ResolveError
    )


def test_an_unreachable_index_is_no_unsolvable_puzzle(workshop: Workshop) -> None:
    workshop.index.fault("*", Fault.status(503))
    os.environ["UV_HTTP_RETRIES"] = "0"
    try:
        assert "could not reach an index" in workshop.fails(workshop.script("thing"), FetchError)
    finally:
        del os.environ["UV_HTTP_RETRIES"]


def test_a_package_without_a_fitting_wheel_is_named_with_uvs_own_message(
    workshop: Workshop, packages: Path
) -> None:
    make_wheel(packages, "top", requires=["newer", "elsewhere"])
    make_wheel(packages, "newer", tag="cp312-cp312-manylinux_2_31_x86_64")
    make_wheel(packages, "elsewhere", tag="cp312-cp312-win_amd64")
    text = workshop.fails(workshop.script("top"), ResolveError)
    assert "newer: no wheel fits; wheels are available for `newer` (v1.0) on the" in text
    assert "following platform: `manylinux_2_31" in text
    assert "all versions of top depend on newer" in text
    assert "newer libc floor" in text


def test_a_package_that_would_have_to_be_built_is_named_and_does_not_run(
    workshop: Workshop, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "top", requires=["source-one", "source-two"])
    make_buildable_sdist(packages, "source-one", code=trap(tmp_path))
    make_buildable_sdist(packages, "source-two", code=trap(tmp_path))
    text = workshop.fails(workshop.script("top"), FetchError)
    assert "add --allow-build source-one" in text
    assert "all versions of top depend on source-one" in text
    assert not (tmp_path / "it-ran").exists()


def test_a_git_source_that_needs_its_backend_is_named_and_does_not_run(
    workshop: Workshop, tmp_path: Path
) -> None:
    repository = make_repository(
        make_source_tree(tmp_path / "repository", "vcs", code=trap(tmp_path))
    )
    text = workshop.fails(workshop.script(f"vcs @ git+{repository.as_uri()}"), FetchError)
    assert "--allow-build vcs" in text
    assert not (tmp_path / "it-ran").exists()


def test_what_is_allowed_is_built(workshop: Workshop, packages: Path, tmp_path: Path) -> None:
    make_buildable_sdist(packages, "source", requires=["leaf"], code=trap(tmp_path))
    make_wheel(packages, "leaf")
    resolution = workshop.resolve(
        workshop.script("source"), allow=["source"], interpreters={"3.12": sys.executable}
    )
    assert versions(resolution) == {"source": "1.0", "leaf": "1.0"}
    assert {choice.name: choice.kind for choice in select_artifacts(resolution)} == {
        "source": "sdist",
        "leaf": "wheel",
    }
    assert (tmp_path / "it-ran").exists()


def test_a_wheel_is_preferred_to_building_what_may_be_built(
    workshop: Workshop, packages: Path
) -> None:
    make_wheel(packages, "both")
    make_buildable_sdist(packages, "both")
    [choice] = select_artifacts(workshop.resolve(workshop.script("both"), allow=["both"]))
    assert choice.kind == "wheel"


def test_a_yanked_pin_comes_with_its_reason(workshop: Workshop, packages: Path) -> None:
    workshop.index.describe(make_wheel(packages, "pulled").name, yanked='it "broke"')
    assert workshop.resolve(workshop.script("pulled==1.0")).yanked == {"pulled": 'it "broke"'}


def test_the_index_of_each_package_is_known(
    workshop: Workshop, packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "public")
    private = tmp_path / "private"
    make_wheel(private, "internal")
    with IndexServer(private) as own:
        options = ResolveOptions(default_index=workshop.index.url, indexes=(f"own={own.url}",))
        resolver = UvResolver(find_uv(), options, Credentials())
        resolution = resolver.resolve(
            read_script(workshop.script("public", "internal")), make_target("3.12", "linux")
        )
        indexes = resolver.index_of(resolution).urls
        assert {name: url.rstrip("/") for name, url in indexes.items()} == {
            "public": workshop.index.url.rstrip("/"),
            "internal": own.url.rstrip("/"),
        }


def test_a_version_for_later_patch_releases_is_noted(workshop: Workshop, packages: Path) -> None:
    for version, python in (("1.0", ">=3.8"), ("2.0", ">=3.12.5"), ("3.0", ">=3.13")):
        make_wheel(packages, "dep", version, requires_python=python)
    script, target = read_script(workshop.script("dep")), make_target("3.12", "linux")
    resolver = workshop.resolver(default_index=workshop.index.url)
    indexes = resolver.index_of(resolver.resolve(script, target))
    assert indexes.urls["dep"].startswith(workshop.index.url.rstrip("/"))
    assert [note.partition(": ")[2] for note in indexes.notes] == [
        "on some releases of Python 3.12, dep 2.0 would be taken, not 1.0: the bundle is resolved "
        "for 3.12.0; set requires-python to at least the release of the nodes"
    ]


def test_secrets_of_an_index_are_in_no_lock_and_in_no_message(
    packages: Path, tmp_path: Path
) -> None:
    make_wheel(packages, "thing")
    with IndexServer(packages, username="kate", password="s3cr3t-word") as server:
        url = server.url_with_credentials()
        shop = Workshop(tmp_path, server)
        resolution = shop.resolve(shop.script("thing"), default_index=url)
        assert "s3cr3t-word" not in repr(resolution.lock)
        assert "s3cr3t-word" not in shop.fails(
            shop.script("nothing"), ResolveError, default_index=url
        )


class TestOtherPythons:
    """Where nobody chose a Python, one that has wheels is better than a newer one that has none."""

    def resolve(self, workshop: Workshop, name: str, *pythons: str) -> Resolution:
        first, *others = (make_target(python, "x86_64-manylinux_2_28") for python in pythons)
        options = ResolveOptions(default_index=workshop.index.url)
        resolver = UvResolver(
            find_uv(), options, Credentials(), alternatives=lambda *_: iter(others)
        )
        return resolver.resolve(read_script(workshop.script(name)), first)

    def test_the_first_with_wheels_is_taken_and_said(
        self, workshop: Workshop, packages: Path
    ) -> None:
        for tag in ("cp310-cp310", "cp311-cp311"):
            make_wheel(packages, "native", tag=f"{tag}-manylinux_2_28_x86_64")
        make_buildable_sdist(packages, "native")
        found = self.resolve(workshop, "native", "3.13", "3.12", "3.11", "3.10")
        assert found.target.python == "3.11"
        assert found.warnings[-1].startswith(
            "no wheel for Python 3.13 of native: Python 3.11 is taken instead"
        )

    def test_where_none_has_them_it_is_said_of_the_first(
        self, workshop: Workshop, packages: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_buildable_sdist(packages, "native")
        run_uv, asked = uv.run_uv, []

        def run(
            command: Sequence[str], *folders: Path | None, **variables: str
        ) -> subprocess.CompletedProcess[str]:
            asked.append(command[command.index("--python-version") + 1])
            return run_uv(command, *folders, **variables)  # type: ignore[arg-type]

        monkeypatch.setattr(uv, "run_uv", run)
        others = ["3.12", "3.11"]
        with pytest.raises(NotBuiltError, match="cp313") as caught:
            self.resolve(workshop, "native", "3.13", *others)
        assert "--allow-build native" in (caught.value.hint or "")
        tried = [version for version in asked if version != "3.13.0"]
        assert sorted(tried) == sorted(f"{other}.0" for other in others)  # each one once

    def test_one_that_goes_without_what_lacks_is_not_taken(
        self, workshop: Workshop, packages: Path
    ) -> None:
        make_wheel(
            packages,
            "native",
            "2.0",
            tag="cp311-cp311-manylinux_2_28_x86_64",
            requires=["source-only"],
        )
        make_wheel(
            packages,
            "native",
            "2.0",
            tag="cp313-cp313-manylinux_2_28_x86_64",
            requires=["source-only"],
        )
        make_wheel(packages, "native", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
        make_buildable_sdist(packages, "source-only")
        with pytest.raises(NotBuiltError, match="source-only"):
            self.resolve(workshop, "native", "3.13", "3.11")

    def test_no_other_is_tried_for_what_no_python_mends(self, workshop: Workshop) -> None:
        def others(_script: Script, _target: Target) -> Iterator[Target]:
            raise AssertionError
            yield

        options = ResolveOptions(default_index=workshop.index.url)
        resolver = UvResolver(find_uv(), options, Credentials(), alternatives=others)
        script = read_script(workshop.script("nothing"))
        with pytest.raises(ResolveError, match="nothing"):
            resolver.resolve(script, make_target("3.12", "x86_64-manylinux_2_28"))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("@nosuch", "nosuch"),
        ("#subdirectory=nosuch", "no subdirectory `nosuch`"),
        ("-gone", "not appear to be a git"),
    ],
)
def test_a_repository_that_cannot_be_read_is_no_failed_build(
    workshop: Workshop, place: str, said: str
) -> None:
    url = make_repository(make_source_tree(workshop.folder, "thing")).as_uri()
    text = workshop.fails(workshop.script(f"thing @ git+{url}{place}"), ResolveError)
    assert f"thing @ git+{url}{place} cannot be read" in text
    assert said in text
    assert "git ls-remote" in text


@pytest.mark.parametrize(("status", "kind"), [(404, ResolveError), (503, FetchError)])
def test_a_file_that_the_script_names_is_no_index(
    workshop: Workshop, status: int, kind: type[BundleError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    workshop.index.fault("*", Fault.status(status))
    url = f"{workshop.index.url}thing-1.0-py3-none-any.whl"
    text = workshop.fails(workshop.script(f"thing @ {url}"), kind)
    assert f"thing @ {url} cannot be fetched" in text
    assert "check the address in the script" in text


def test_hints_for_a_lost_path_and_for_another_uv(workshop: Workshop) -> None:
    lost = workshop.script("thing", tool='[tool.uv.sources]\nthing = { path = "nowhere" }')
    assert "check the path in the script" in workshop.fails(lost, ResolveError)
    assert "required-version" in workshop.fails(
        workshop.script(tool='[tool.uv]\nrequired-version = ">=99"'), ResolveError
    )


def test_a_free_threaded_target_takes_its_own_wheels_whatever_interpreter_is_here(
    workshop: Workshop, packages: Path
) -> None:
    make_wheel(packages, "native", "2.0", tag="cp314-cp314-manylinux_2_28_x86_64")
    make_wheel(packages, "native", "1.0", tag="cp314-cp314-manylinux_2_28_x86_64")
    make_wheel(packages, "native", "1.0", tag="cp314-cp314t-manylinux_2_28_x86_64")
    make_wheel(packages, "stable", tag="cp311-abi3-manylinux_2_28_x86_64")
    resolver = UvResolver(
        find_uv(), ResolveOptions(default_index=workshop.index.url), Credentials()
    )
    script = read_script(workshop.script("native"))
    [choice] = select_artifacts(
        resolver.resolve(script, make_target("3.14t", "x86_64-manylinux_2_28"))
    )
    assert choice.filename == "native-1.0-cp314-cp314t-manylinux_2_28_x86_64.whl"
    with pytest.raises(ResolveError, match="stable"):
        resolver.resolve(
            read_script(workshop.script("stable")), make_target("3.14t", "x86_64-manylinux_2_28")
        )


def test_building_is_no_advice_where_the_sources_are_for_other_pythons_too(
    workshop: Workshop, packages: Path
) -> None:
    sdist = make_buildable_sdist(packages, "modern")
    workshop.index.describe(sdist.name, requires_python=">=3.13")
    text = workshop.fails(workshop.script("modern"), ResolveError)
    assert "Python>=3.13" in text
    assert "--allow-build" not in text


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("", "1"), "1"),
        (("1", "2", "10"), "10"),
        (("2", "10", "", "1"), "10"),
        (("1a", "1b"), "1b"),
    ],
)
def test_of_wheels_with_equal_tags_the_highest_build_tag_is_taken(
    workshop: Workshop, packages: Path, names: tuple[str, ...], taken: str
) -> None:
    wheel = make_wheel(packages, "rebuilt")
    for build in filter(None, names):
        copy = wheel.with_name(wheel.name.replace("1.0-", f"1.0-{build}-"))
        shutil.copyfile(wheel, copy)
    if "" not in names:
        wheel.unlink()
    [artifact] = select_artifacts(workshop.resolve(workshop.script("rebuilt")))
    assert artifact.filename == f"rebuilt-1.0-{taken}-py3-none-any.whl"


def test_a_better_tag_wins_over_a_higher_build_tag(workshop: Workshop, packages: Path) -> None:
    wheel = make_wheel(packages, "both")
    wheel.rename(wheel.with_name("both-1.0-9-py3-none-any.whl"))
    make_wheel(packages, "both", tag="cp312-cp312-manylinux_2_28_x86_64")
    [artifact] = select_artifacts(workshop.resolve(workshop.script("both")))
    assert artifact.filename == "both-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("UV_FIND_LINKS", "more"),
        ("UV_FIND_LINKS", "./more,elsewhere"),
        ("UV_INDEX", "local=./more"),
        ("UV_EXTRA_INDEX_URL", "./more"),
    ],
)
def test_relative_paths_in_variables_are_those_of_the_working_folder(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    wheel = make_wheel(tmp_path / "more", "other", "3.0")
    (tmp_path / "elsewhere").mkdir()
    if "FIND_LINKS" not in variable:
        page = tmp_path / "more" / "other" / "index.html"
        page.parent.mkdir()
        page.write_text(f'<a href="../{wheel.name}">{wheel.name}</a>')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    assert versions(workshop.resolve(workshop.script("other"))) == {"other": "3.0"}


def test_a_relative_cache_holds_and_variables_of_uv_pip_do_not(
    workshop: Workshop, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "thing", "1.0")
    make_wheel(packages, "thing", "2.0")
    (tmp_path / "limits.txt").write_text("thing<2\n")
    monkeypatch.chdir(tmp_path)
    for variable in ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "limits.txt")
            patch.setenv("UV_CACHE_DIR", ".uv-cache")
            assert versions(workshop.resolve(workshop.script("thing"))) == {"thing": "2.0"}
    assert (tmp_path / ".uv-cache").is_dir()


def test_without_a_home_there_is_no_user_configuration(
    workshop: Workshop, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        message = "Could not determine home directory."
        raise RuntimeError(message)

    make_wheel(packages, "thing")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("offline_bundle.builder.resolve.settings.uv_settings.Path.home", no_home)
    assert versions(workshop.resolve(workshop.script("thing"))) == {"thing": "1.0"}


def test_a_cache_that_cannot_be_written_is_exit_1(
    workshop: Workshop, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(packages, "thing")
    (tmp_path / "file").touch()
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(BundleError) as caught:
        workshop.resolve(workshop.script("thing"))
    assert caught.value.exit_code == 1


def test_configuration_and_environment_cannot_lift_the_ban_on_building(
    workshop: Workshop,
    packages: Path,
    tmp_path: Path,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_buildable_sdist(packages, "source", code=trap(tmp_path))
    (own_home / ".config/uv").mkdir(parents=True)
    (own_home / ".config/uv/uv.toml").write_text('no-binary-package = ["source"]\n')
    assert "uv.toml requires building source" in workshop.fails(
        workshop.script("source"), FetchError
    )
    (own_home / ".config/uv/uv.toml").unlink()
    monkeypatch.setenv("UV_NO_BINARY_PACKAGE", "source")
    assert "UV_NO_BINARY" in workshop.fails(workshop.script("source"), FetchError)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(("code", "is_reported"), [(0, False), (2, True)])
def test_a_uv_that_gives_no_lock_is_not_the_fault_of_the_script(
    workshop: Workshop, tmp_path: Path, code: int, *, is_reported: bool
) -> None:
    broken = tmp_path / "uv"
    broken.write_text(f"#!/bin/sh\necho odd >&2\nexit {code}\n")
    broken.chmod(0o755)
    resolver = UvResolver(str(broken), ResolveOptions(), Credentials())
    script = read_script(workshop.script("leaf"))
    with pytest.raises(BundleError, match="uv failed") as caught:
        resolver.resolve(script, make_target("3.12", "x86_64-manylinux_2_28"))
    assert caught.value.exit_code == 1
    assert ("odd" in str(caught.value)) or not is_reported


def test_project_root_in_a_requirement_is_the_working_folder(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path / "wheels", "own")
    monkeypatch.chdir(tmp_path)
    script = workshop.script(f"own @ file://${{PROJECT_ROOT}}/wheels/{wheel.name}")
    (package,) = workshop.resolve(script).lock.packages
    assert package.name == "own"
