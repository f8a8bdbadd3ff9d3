from __future__ import annotations

import pytest

from offline_bundle.builder.inputs.targets import make_target
from offline_bundle.builder.wheels.closure import (
    capped_pythons,
    closure_problems,
    overridden_names,
    with_stated_requirements,
    without_versions,
)
from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata

ENVIRONMENT = make_target("3.12", "linux").environment("3.12.0")


def wheel(
    name: str, version: str = "1.0", *requires: str, python: str | None = None
) -> WheelMetadata:
    return WheelMetadata(name, version, python, requires)


def problems(
    roots: list[str], *wheels: WheelMetadata, overridden: frozenset[str] = frozenset()
) -> list[str]:
    return closure_problems(roots, {entry.name: entry for entry in wheels}, ENVIRONMENT, overridden)


def test_a_closed_set_has_no_problems() -> None:
    assert problems(["a"], wheel("a", "1.0", "b>=2"), wheel("b", "2.1")) == []


def test_a_missing_package_is_named_with_who_needs_it() -> None:
    assert problems(["a"], wheel("a", "1.0", "B_c>=2")) == [
        "a 1.0 requires B_c>=2, which is not in the lock"
    ]


def test_a_wrong_version_is_named() -> None:
    assert problems(["a"], wheel("a", "1.0", "b>=2"), wheel("b", "1.5")) == [
        "a 1.0 requires b>=2, but the lock has 1.5"
    ]


def test_a_number_of_many_digits_is_a_problem_and_no_traceback() -> None:
    huge = "9" * 5000
    [problem] = problems(["a"], wheel("a", "1.0", f"b>={huge}"), wheel("b", "1.5"))
    assert problem.endswith("but the lock has 1.5")
    assert len(problems(["a"], wheel("a", python=f">={huge}"))) == 1
    assert problems([f"a; platform_release >= '{huge}'"]) != [""]


def test_markers_are_the_targets() -> None:
    assert problems(["a; sys_platform == 'win32'"]) == []
    assert (
        problems(
            ["a"], wheel("a", "1.0", "b; sys_platform == 'win32'", "c; python_version < '3.9'")
        )
        == []
    )


def test_extras_are_followed_only_when_asked_for() -> None:
    with_extra = wheel("a", "1.0", "b; extra == 'plot'", "c; extra == 'Test.Me'")
    assert problems(["a"], with_extra) == []
    assert problems(["a[plot]"], with_extra) == [
        'a 1.0 requires b; extra == "plot", which is not in the lock'
    ]
    assert problems(["a[test-me]"], with_extra) == [
        'a 1.0 requires c; extra == "test-me", which is not in the lock'
    ]


def test_an_extra_that_refers_to_its_own_package_ends() -> None:
    recursive = wheel("a", "1.0", "a[one]; extra == 'all'", "b; extra == 'one'")
    assert problems(["a[all]"], recursive, wheel("b")) == []


def test_prereleases_in_the_lock_count() -> None:
    assert problems(["a>=1"], wheel("a", "2.0rc1")) == []


def test_a_wheel_for_another_python_is_a_problem() -> None:
    assert problems(["a"], wheel("a", python=">=3.13")) == [
        "a 1.0 requires Python >=3.13, but the target has 3.12.0"
    ]


@pytest.mark.parametrize(
    ("asked", "begins", "ends"),
    [
        (">=3.9,<3.12", True, False),
        ("<3.12", True, False),
        ("~=3.10", True, True),
        ("==3.11.*", True, False),
        ("~=3.11.0", True, False),
        (">=3.9,!=3.12.0", True, False),
        ("==3.12.*", True, True),
        (">3.12", False, False),
        (">=3.13,<3.15", False, False),
        ("==3.13.*", False, False),
        ("neverland", True, True),
        ("", True, True),
    ],
)
def test_an_upper_end_of_requires_python_is_a_note(asked: str, begins: bool, ends: bool) -> None:  # noqa: FBT001 - a table
    entry = wheel("a", python=asked)
    assert (problems(["a"], entry) == []) is begins
    assert (capped_pythons([entry], "3.12.0") == []) is ends


def test_overrides_are_the_users_business() -> None:
    names = overridden_names({"override-dependencies": ["b==9"], "exclude-dependencies": ["c"]})
    assert (
        problems(["a"], wheel("a", "1.0", "b<2", "c"), wheel("b", "9"), overridden=frozenset(names))
        == []
    )


def test_the_version_of_a_direct_source_is_not_checked() -> None:
    settings = {"sources": {"A": {"path": "../a"}, "b": {"index": "own"}}}
    roots = ["a[plot]>=2; python_version >= '3'", "b>=2", "odd @ ./odd"]
    assert list(without_versions(roots, settings)) == [
        'a[plot]; python_version >= "3"',
        "b>=2",
        "odd @ ./odd",
    ]


def test_lines_that_no_installer_reads_are_passed_over() -> None:
    assert problems(["a"], wheel("a", "1.0", "b (>=1", "")) == []


def test_a_marker_that_cannot_be_evaluated_counts_if_the_package_is_locked() -> None:
    odd = wheel("a", "1.0", "b>=2; python_version < 'neverland'")
    assert problems(["a"], odd) == []
    assert problems(["a"], odd, wheel("b", "2.0")) == []


@pytest.mark.parametrize(
    ("name", "version", "requires"),
    [
        ("A_a", "1.0", ("stated",)),
        ("a-a", "1", ("stated",)),
        ("a-a", None, ("stated",)),
        ("a-a", "2.0", ("own",)),
        ("b", None, ("own",)),
    ],
)
def test_stated_metadata_replaces_the_requirements_of_its_version(
    name: str, version: str | None, requires: tuple[str, ...]
) -> None:
    entry = {"name": name, "requires-dist": ["stated"]} | ({"version": version} if version else {})
    settings = {"dependency-metadata": [entry]}
    assert with_stated_requirements(wheel("a-a", "1.0", "own"), settings).requires_dist == requires
