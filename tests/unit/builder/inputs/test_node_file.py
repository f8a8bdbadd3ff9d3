"""Targets from node.json files of many machines, and invalid files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.builder.inputs.node_file import read_node
from offline_bundle.builder.inputs.script_targets import pair_up
from offline_bundle.builder.inputs.scripts import Script, read_scripts
from offline_bundle.wheelhouse.runtime.errors import InputError, ResolveError
from tests.support.node_file_cases import node_json, python
from tests.support.pipeline_cases import factory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["factory"]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    path = tmp_path / "eval.py"
    path.write_text("# /// script\n# dependencies = []\n# ///\n")
    return read_scripts([path])[0]


@pytest.mark.parametrize(
    ("changes", "platform"),
    [
        ({}, "x86_64-manylinux_2_28"),
        ({"libc": {"family": "glibc", "version": "2.17"}}, "x86_64-manylinux_2_17"),
        ({"libc": {"family": "glibc", "version": "2.30"}}, "x86_64-manylinux_2_28"),
        (
            {"libc": {"family": "glibc", "version": "2.39"}, "machine": "aarch64"},
            "aarch64-manylinux_2_39",
        ),
        ({"libc": {"family": "glibc", "version": "2.99"}}, "x86_64-manylinux_2_40"),
        ({"libc": {"family": "musl", "version": "1.2.5"}}, "x86_64-unknown-linux-musl"),
        ({"libc": {"family": "musl", "version": None}}, "x86_64-unknown-linux-musl"),
        (
            {"system": "Darwin", "machine": "aarch64", "libc": None, "macos": "14.5"},
            "aarch64-apple-darwin",
        ),
        ({"system": "Windows", "libc": None}, "x86_64-pc-windows-msvc"),
    ],
)
def test_the_platform_is_the_best_that_uv_knows_and_the_node_meets(
    changes: dict[str, Any], platform: str, tmp_path: Path
) -> None:
    assert read_node(node_json(tmp_path, **changes)).platform == platform


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"libc": {"family": "glibc", "version": "2.12"}}, "no platform for glibc 2.12"),
        ({"machine": "ppc64le"}, "no such machine: ppc64le"),
        ({"system": "SunOS", "libc": None}, "no such system: SunOS"),
        ({"libc": None}, "no such system: Linux of unknown libc"),
        ({"system": "Darwin", "libc": None, "macos": "12.7"}, "macOS 13 or newer, this is 12.7"),
    ],
)
def test_a_node_that_uv_resolves_nothing_for_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ResolveError, match=reason):
        read_node(node_json(tmp_path, **changes))


@pytest.mark.parametrize(
    ("requires", "asked", "chosen"),
    [
        (None, (), "3.12"),
        ("==3.9", (), "3.9"),
        ("<3.12", (), "3.9"),
        ("==3.13", (), "3.13t"),
        (None, ("3.9",), "3.9"),
        (None, ("3.9.5", "3.12"), "3.9 3.12"),
    ],
)
def test_the_python_is_the_newest_of_the_nodes_that_the_script_admits(
    requires: str | None, asked: tuple[str, ...], chosen: str, tmp_path: Path, script: Script
) -> None:
    script = replace(script, requires_python=requires)
    pairs = pair_up([script], asked, [], [read_node(node_json(tmp_path))])
    assert [(target.python, target.platform) for _, target in pairs] == [
        (minor, "x86_64-manylinux_2_28") for minor in chosen.split()
    ]


@pytest.mark.parametrize(
    ("requires", "asked", "lacks"),
    [
        (">=3.14", (), 'Python that satisfies requires-python = ">=3.14"'),
        (None, ("3.10",), "Python 3.10"),
        (">=3.12.5", ("3.12",), "Python 3.12"),
    ],
)
def test_a_node_without_a_fitting_python_is_refused_and_its_own_are_named(
    requires: str | None, asked: tuple[str, ...], lacks: str, tmp_path: Path, script: Script
) -> None:
    script = replace(script, requires_python=requires)
    pythons = [
        python("3.12.1"),
        python("3.14.0", release="candidate"),
        python("3.11.1", implementation="pypy"),
    ]
    pythons += [python("3.10.1", bits=32), python("3.10.2", libc=None)]
    nodes = [read_node(node_json(tmp_path, pythons=pythons))]
    with pytest.raises(ResolveError) as caught:
        pair_up([script], asked, [], nodes)
    [problem] = caught.value.problems
    assert (
        f"the node has no {lacks}; it has 3.12.1, 3.14.0 cpython candidate, 3.11.1 pypy, "
        in problem
    )
    assert "3.10.1 cpython of 32 bits, 3.10.2 cpython for another libc" in problem
    assert "--with-python" in problem
    assert pair_up([script], asked, [], nodes, bundle_python=True)


def test_several_nodes_give_each_target_once(tmp_path: Path, script: Script) -> None:
    nodes = [
        node_json(tmp_path, "a.json"),
        node_json(tmp_path, "b.json", pythons=[python("3.12.7")]),
        node_json(
            tmp_path,
            "c.json",
            pythons=[python("3.9.1")],
            libc={"family": "glibc", "version": "2.17"},
        ),
    ]
    pairs = pair_up([script], (), (), [read_node(path) for path in nodes])
    assert [target.name for _, target in pairs] == [
        "cp312-x86_64-manylinux_2_28",
        "cp39-x86_64-manylinux_2_17",
    ]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"format": 2}, "format"),
        ({"format": True}, "format"),
        ({"system": 5}, "system"),
        ({"machine": "x86\x1b[31m"}, "machine"),
        ({"machine": "a" * 100000}, "machine"),
        ({"libc": "glibc 2.28"}, "libc"),
        ({"libc": {"family": "glibc", "version": None}}, "libc.version"),
        ({"libc": {"family": "glibc", "version": "2." + "9" * 5000}}, "libc.version"),
        ({"libc": {"version": "2.28"}}, "libc.family"),
        ({"macos": 14}, "macos"),
        ({"pythons": {}}, "pythons"),
        ({"pythons": ["3.12"]}, r"pythons\[0\]"),
        ({"pythons": [python("3.12")], "system": None}, "system"),
        ({"pythons": [python("3.9.1"), python("3.x")]}, r"pythons\[1\].version"),
        ({"pythons": [python("3.9.1", **{"free-threaded": "no"})]}, r"pythons\[0\].free-threaded"),
        ({"pythons": [python("3.9.1", bits="64")]}, r"pythons\[0\].bits"),
        ({"pythons": [python("3.9.1", implementation=None)]}, r"pythons\[0\].implementation"),
    ],
)
def test_a_malformed_node_json_is_refused_naming_file_and_field(
    changes: dict[str, Any], where: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"(?m)^(\s*|\S*node.json: ){where}: must be") as caught:
        read_node(node_json(tmp_path, **changes))
    message = str(caught.value)
    assert "node.json" in message
    assert message.isprintable() or "\n" in message
    assert "\x1b" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100000,
        b'{"format": ' + b"9" * 10000 + b"}",
        b" " * (1 << 21),
    ],
)
def test_what_is_no_node_json_at_all_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"node\.json"):
        read_node(path)
    for other in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_node(other)
