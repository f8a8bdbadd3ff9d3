from __future__ import annotations

import pytest
from packaging import tags
from packaging.utils import parse_wheel_filename

from offline_bundle.builder.inputs.targets import (
    KNOWN_MINORS,
    Target,
    choose_python,
    host_platform,
    libc_floor,
    make_target,
)
from offline_bundle.wheelhouse.runtime.errors import InputError


def test_a_targets_name_has_no_dot() -> None:
    assert make_target("3.12", "x86_64-manylinux_2_28").name == "cp312-x86_64-manylinux_2_28"
    assert make_target("3.13t", "aarch64-apple-darwin").name == "cp313t-aarch64-apple-darwin"


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("linux", "x86_64-manylinux_2_28"),
        ("macos", "aarch64-apple-darwin"),
        ("windows", "x86_64-pc-windows-msvc"),
        ("x86_64-manylinux2014", "x86_64-manylinux_2_17"),
        ("x86_64-unknown-linux-gnu", "x86_64-manylinux_2_28"),
        ("x86_64-unknown-linux-musl", "x86_64-unknown-linux-musl"),
    ],
)
def test_aliases_mean_what_uv_means_by_them(typed: str, canonical: str) -> None:
    assert make_target("3.12", typed).platform == canonical


@pytest.mark.parametrize("python", ["12", "3", "3.x", "python3.12", ""])
def test_bad_versions_are_refused(python: str) -> None:
    with pytest.raises(InputError, match="not a Python version"):
        make_target(python, "linux")


@pytest.mark.parametrize(
    "platform",
    ["solaris", "x86_64-manylinux_2_27", "x86_64-manylinux_2_99", "manylinux_2_28_x86_64"],
)
def test_unknown_platforms_are_refused(platform: str) -> None:
    with pytest.raises(InputError):
        _ = make_target("3.12", platform).tags


@pytest.mark.parametrize(
    ("platform", "filename", "fits"),
    [
        ("x86_64-manylinux_2_28", "a-1-cp312-cp312-manylinux_2_28_x86_64.whl", True),
        (
            "x86_64-manylinux_2_28",
            "a-1-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            True,
        ),
        ("x86_64-manylinux_2_28", "a-1-cp312-cp312-manylinux2014_x86_64.whl", True),
        ("x86_64-manylinux_2_28", "a-1-cp312-cp312-manylinux1_x86_64.whl", True),
        ("x86_64-manylinux_2_28", "a-1-cp312-cp312-manylinux_2_31_x86_64.whl", False),
        ("x86_64-manylinux_2_28", "a-1-cp312-cp312-musllinux_1_2_x86_64.whl", False),
        ("x86_64-manylinux_2_28", "a-1-cp39-abi3-manylinux_2_17_x86_64.whl", True),
        ("x86_64-manylinux_2_28", "a-1-cp313-cp313-manylinux_2_17_x86_64.whl", False),
        ("x86_64-manylinux_2_28", "a-1-py3-none-any.whl", True),
        ("x86_64-manylinux_2_28", "a-1-py2.py3-none-any.whl", True),
        ("aarch64-manylinux_2_28", "a-1-cp312-cp312-manylinux1_x86_64.whl", False),
        ("aarch64-manylinux_2_28", "a-1-cp312-cp312-manylinux2014_aarch64.whl", True),
        ("x86_64-unknown-linux-musl", "a-1-cp312-cp312-musllinux_1_1_x86_64.whl", True),
        ("x86_64-unknown-linux-musl", "a-1-cp312-cp312-manylinux2014_x86_64.whl", False),
        ("x86_64-pc-windows-msvc", "a-1-cp312-cp312-win_amd64.whl", True),
        ("aarch64-apple-darwin", "a-1-cp312-cp312-macosx_11_0_arm64.whl", True),
        ("aarch64-apple-darwin", "a-1-cp312-cp312-macosx_10_9_universal2.whl", True),
        ("aarch64-apple-darwin", "a-1-cp312-cp312-macosx_14_0_arm64.whl", False),
    ],
)
def test_tags_are_the_targets_not_the_hosts(platform: str, filename: str, fits: bool) -> None:  # noqa: FBT001
    target = make_target("3.12", platform)
    assert bool(parse_wheel_filename(filename)[3] & set(target.tags)) is fits


def test_free_threaded_builds_take_their_own_abi_only() -> None:
    taken = set(make_target("3.13t", "linux").tags)
    assert parse_wheel_filename("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl")[3] & taken
    assert not parse_wheel_filename("a-1-cp313-cp313-manylinux_2_17_x86_64.whl")[3] & taken
    assert not parse_wheel_filename("a-1-cp39-abi3-manylinux_2_17_x86_64.whl")[3] & taken


def test_tags_agree_with_packaging_for_this_machine() -> None:
    """`packaging` computes the tags of the running interpreter: equal, up to libc floors."""
    here = Target(f"3.{tags.interpreter_version()[1:]}", host_platform())
    ours = set(here.tags)
    theirs = [
        tag for tag in tags.sys_tags() if tag.platform != "any" and "manylinux" in tag.platform
    ]
    floor = here.glibc or (0, 0)
    within = [
        tag
        for tag in theirs
        if not tag.platform.startswith("manylinux_")
        or tuple(map(int, tag.platform.split("_")[1:3])) <= floor
    ]
    assert within
    assert set(within) <= ours


def test_markers_are_the_targets() -> None:
    environment = make_target("3.12", "windows").environment("3.12.4")
    assert (environment["sys_platform"], environment["platform_machine"]) == ("win32", "AMD64")
    assert (environment["python_version"], environment["python_full_version"]) == ("3.12", "3.12.4")
    assert make_target("3.12", "macos").environment("3.12.0")["platform_machine"] == "arm64"


@pytest.mark.parametrize(
    ("requires", "full"),
    [
        (None, "3.12.0"),
        ("==3.12", "3.12.0"),
        ("==3.12.*", "3.12.0"),
        (">=3.12.4", "3.12.4"),
        ("==3.12.7", "3.12.7"),
        (">3.12.1,!=3.12.2", "3.12.3"),
        ("~=3.11", "3.12.0"),
    ],
)
def test_a_target_is_resolved_for_the_lowest_patch_release_admitted(
    requires: str | None, full: str
) -> None:
    assert make_target("3.12", "linux").full_version(requires) == full


def test_a_python_that_the_script_excludes_is_refused() -> None:
    with pytest.raises(InputError, match=r"3\.12 is not admitted .*>=3\.13"):
        make_target("3.12", "linux").full_version(">=3.13")


def test_the_newest_installed_minor_is_chosen() -> None:
    assert choose_python(">=3.10", {"3.11", "3.9"}.__contains__) == "3.11"
    assert choose_python("<3.11", {"3.11"}.__contains__) == "3.10"
    assert choose_python(None, set().__contains__) == KNOWN_MINORS[0]


def test_one_admitted_minor_needs_no_look_at_the_machine() -> None:
    def fail(minor: str) -> bool:
        raise AssertionError(minor)

    assert choose_python("==3.12", fail) == "3.12"


def test_no_known_python_is_an_error() -> None:
    with pytest.raises(InputError, match="no known Python"):
        choose_python(">=4", set().__contains__)


@pytest.mark.parametrize(
    ("filenames", "floor"),
    [
        (["a-1-py3-none-any.whl"], None),
        (
            [
                "a-1-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
                "b-1-py3-none-any.whl",
            ],
            "2.27",
        ),
        (["a-1-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"], "2.17"),
        (
            ["a-1-cp312-cp312-manylinux1_x86_64.whl", "b-1-cp312-cp312-manylinux_2_28_x86_64.whl"],
            "2.28",
        ),
        (["a-1-cp312-cp312-linux_x86_64.whl"], "2.28"),
    ],
)
def test_the_libc_floor_is_what_the_wheels_need(filenames: list[str], floor: str | None) -> None:
    target = make_target("3.12", "x86_64-manylinux_2_28")
    assert (
        libc_floor(
            [parse_wheel_filename("a-1-cp312-cp312-win_amd64.whl")[3]],
            make_target("3.12", "windows"),
        )
        is None
    )
    assert libc_floor([parse_wheel_filename(name)[3] for name in filenames], target) == floor


@pytest.mark.parametrize(
    ("requires", "first", "last"),
    [
        (None, "3.12.0", "3.12.99"),
        ("==3.12", "3.12.0", "3.12.99"),
        (">=3.12.4,!=3.12.99", "3.12.4", "3.12.98"),
        ("<3.12.5", "3.12.0", "3.12.4"),
        ("==3.12.7", "3.12.7", "3.12.7"),
    ],
)
def test_the_patch_releases_are_those_that_requires_python_admits(
    requires: str | None, first: str, last: str
) -> None:
    target = make_target("3.12", "linux")
    assert (target.full_version(requires), target.last_version(requires)) == (first, last)
