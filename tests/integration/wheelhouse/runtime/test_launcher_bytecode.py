"""Bytecode of a bundle on a node: unpacked beside the installed packages, or refused."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bytecode import bytecode_path
from tests.support.bundles import (
    THIS_PYTHON,
    BundleScript,
    make_bundle,
    read_manifest,
    write_manifest,
)
from tests.support.bytecode_cases import ALPHA, TAG, archive, compile_code, compile_one, special
from tests.support.launcher_cases import Node, needs_posix

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node whose bundle has bytecode of both wheels."""
    node = Node(tmp_path)
    packages = ["alpha", "beta"]
    script = BundleScript(dependencies=packages, packages=packages, body="import alpha\n")
    make_bundle(node.bundle, {"eval": script})
    for wheel in sorted((node.bundle / "wheels").glob("*.whl")):
        compiled = compile_one(wheel, tmp_path / "compiled").read_bytes()
        put(node, wheel.name.partition("-")[0], compiled)
    return node


def put(node: Node, name: str, content: bytes) -> None:
    """Put bytecode of a wheel into the bundle, and into its manifest."""
    [wheel] = (node.bundle / "wheels").glob(f"{name}-*.whl")
    path = node.bundle / bytecode_path(f"wheels/{wheel.name}", THIS_PYTHON)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    write_manifest(node.bundle, read_manifest(node.bundle))


def compiled(node: Node) -> set[str]:
    return {path.name for path in node.cache.rglob("site-packages/__pycache__/*.pyc")} - {
        f"_virtualenv.{TAG}.pyc"
    }


@needs_posix
def test_bytecode_is_unpacked_and_used(node: Node) -> None:
    alpha = {ALPHA: compile_code("print('from bytecode')")}
    put(node, "alpha", archive(alpha))
    done = node.run(node.script(), variables={"PYTHONDONTWRITEBYTECODE": "1"})
    assert (done.returncode, done.stdout) == (0, "from bytecode\n"), done.stderr
    assert compiled(node) == {f"alpha.{TAG}.pyc", f"beta.{TAG}.pyc"}
    [home] = [path.parent for path in node.environments()]
    assert sorted(path.name for path in home.iterdir()) == [
        "complete.json",
        "contents.json",
        "env",
        "pylock.toml",
    ]


@needs_posix
def test_pip_compiles_nothing_and_bytecode_is_unpacked(node: Node) -> None:
    put(node, "alpha", archive({ALPHA: compile_code("print('from bytecode')")}))
    done = node.run("-v", node.script(), variables={"OFFLINE_BUNDLE_UV": None})
    assert (done.returncode, done.stdout) == (0, "from bytecode\n"), done.stderr
    assert "--no-compile" in done.stderr
    assert {f"alpha.{TAG}.pyc", f"beta.{TAG}.pyc"} <= compiled(node)


@needs_posix
def test_bytecode_of_another_python_is_not_used(node: Node) -> None:
    put(node, "alpha", archive({ALPHA: compile_code("print('wrong')", b"\0\0\r\n")}))
    done = node.run("-v", node.script(), variables={"PYTHONDONTWRITEBYTECODE": "1"})
    assert (done.returncode, done.stdout) == (0, "")
    assert "compiled by another Python, not used" in done.stderr
    assert f"alpha.{TAG}.pyc" not in compiled(node)


@needs_posix
def test_without_all_bytecode_imports_compile(node: Node) -> None:
    [path] = (node.bundle / "bytecode").rglob("beta*")
    path.unlink()
    write_manifest(node.bundle, read_manifest(node.bundle))
    done = node.run(node.script())
    assert done.returncode == 0, done.stderr
    assert compiled(node) == {f"alpha.{TAG}.pyc"}


@needs_posix
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_damaged_bytecode_is_named_and_refused(node: Node, damage: str) -> None:
    [path] = (node.bundle / "bytecode").rglob("alpha*")
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"!")
    message = node.failure(5, "-q", node.script())
    assert path.name in message
    assert not node.environments()


@needs_posix
@pytest.mark.parametrize(
    "content",
    [
        archive({f"__pycache__/gamma.{TAG}.pyc": compile_code("")}),
        archive({ALPHA: special(tarfile.SYMTYPE, "/etc/passwd")}),
        archive({f"../__pycache__/alpha.{TAG}.pyc": compile_code("")}),
        b"not an archive",
    ],
)
def test_bytecode_with_anything_else_is_refused(node: Node, content: bytes) -> None:
    put(node, "alpha", content)
    message = node.failure(5, "-q", node.script())
    assert "alpha-1.0-py3-none-any.whl.tar.gz of the bundle is not used: " in message
    assert not node.environments()


@needs_posix
def test_module_of_two_wheels_gets_no_bytecode(node: Node) -> None:
    content = archive({ALPHA: compile_code("print('wrong')")})
    put(node, "alpha", content)
    put(node, "beta", content)
    done = node.run(node.script(), variables={"PYTHONDONTWRITEBYTECODE": "1"})
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert compiled(node) == set()
