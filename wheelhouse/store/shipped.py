"""The programs in a bundle and beside an archive, taken or generated from `wheelhouse.runtime`.

    bundle_files(with_cache=False, with_pythons=False)     # "run.py", "runtime/..." -> bytes
    unpacker()                                             # FILE.tar.unpack.py

A bundle has `run.py` and the folder `runtime/`. `run.py` is one file, because CPython compiles the
main file at every start. Beside an archive is one file that needs nothing else. Both are generated:
`single_file` concatenates modules in dependency order, under banners that name them.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from offline_bundle.wheelhouse import runtime
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.launcher.modules import render_modules

_ROOT = Path(runtime.__file__).parent
# Root files of this launcher and of earlier ones; see bundle_files.
_LAUNCHER = {"run.py", "run.sh", "uv_cache.py", "prepare.py", "policy.py", "interpreter.py"}
_RUN_DOC = '''\
"""Run a script from this offline bundle: the launcher.

    python BUNDLE/run.py [--bundle DIR] [--python PATH] [--prepare] [-q] [-v] SCRIPT [ARGS...]

Standard library of Python 3.9 or newer only. This file is what happens at every start: it finds an
environment that an earlier start recorded, and starts SCRIPT in it. Everything else is in the
folder runtime/ beside it: find the script's lock, verify, install by hash, record. They are
separate because Python compiles its main file at every start.

CACHE/launches/RECORD        path of the environment, then the launch key that it answers
CACHE/environments/KEY       one environment: env/, and complete.json, written last
CACHE/environments/KEY.lock  held exclusively to make or remove it, shared by every job in it

Generated from the modules named in the banners. Nothing is ever written into the bundle.
"""
'''
_RUN_MAIN = """\
if __name__ == "__main__":
    sys.dont_write_bytecode = True  # nothing is written into the bundle
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, folder)
    sys.exit(main(folder, "{modules}"))
"""
_UNPACK_DOC = '''\
"""Check or unpack an archive of an offline bundle. Standard library of Python 3.9 or newer only.

    python3 FILE.tar.unpack.py FILE.tar -o DIR         create the bundle DIR, or update it
    python3 FILE.tar.unpack.py FILE.tar --verify       check all bytes of the archive, write nothing

1. Read bundle.json, at the start of the archive, and derive from it every byte that is not content;
   refuse whatever differs.
2. Copy each file that is needed to DIR/.writer/incoming, hash it on the way, and check the hash.
3. Check the files that stay, then rename the new ones into place, bundle.json last.

It never follows a link, writes outside DIR, runs anything from the archive, or changes the bundle
in place before all new files are complete and match. After a kill, run it again.

Generated from the modules named in the banners.
"""

import sys

if sys.version_info < (3, 9):
    version = sys.version.split()[0]
    sys.exit(f"error: this needs Python 3.9 or newer; {sys.executable} is {version}")

'''
_PLAIN_MAIN = """\
if __name__ == "__main__":
    sys.exit(main())
"""
_SITE_DOC = '''\
"""Start the site's launcher, which its signature policy names, in place of that of a bundle.

Generated from the modules named in the banners.
"""
'''
_UV_CACHE = '''\
"""Create a cache folder for this node's uv from BUNDLE/cache; see
runtime/launcher/uv/uv_cache.py.

    export UV_CACHE_DIR=$(python3 BUNDLE/uv_cache.py)
"""

import os
import sys

sys.dont_write_bytecode = True  # nothing is written into the bundle
BUNDLE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, BUNDLE)

from runtime.launcher.uv.uv_cache import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(bundle=BUNDLE))
'''


@cache
def bundle_files(*, with_cache: bool, with_pythons: bool) -> Mapping[str, bytes]:
    """Return the launcher's files by path in the bundle.

    *with_cache* adds the program that serves the uv cache, *with_pythons* the shell launcher for
    nodes that have no Python.
    """
    paths = sorted(path for path in _ROOT.rglob("*.py") if path.parent.name != "archive")
    files = {f"runtime/{path.relative_to(_ROOT).as_posix()}": path.read_bytes() for path in paths}
    modules = render_modules({path: code.decode() for path, code in files.items()}).encode()
    name = f"modules-{sha256_of(modules)[:16]}.txt"
    files[f"runtime/{name}"] = modules
    files["run.py"] = single_file("launcher/entry", _RUN_DOC, _RUN_MAIN.format(modules=name))
    if with_cache:
        files["uv_cache.py"] = _UV_CACHE.encode()
    if with_pythons:
        files["run.sh"] = (_ROOT / "launcher" / "run.sh").read_bytes()
    return files


def is_launcher_file(path: str) -> bool:
    """Return True for the files of a launcher, of this or an earlier version."""
    return path in _LAUNCHER or path.startswith("runtime/")


@cache
def unpacker() -> bytes:
    """Return the program that checks and unpacks an archive without anything else installed."""
    return single_file("archive/unpack", _UNPACK_DOC, _PLAIN_MAIN)


@cache
def site_launcher() -> bytes:
    """Return the program that starts the site's launcher with the arguments of a bundle's."""
    return single_file("launcher/site_launcher", _SITE_DOC, _PLAIN_MAIN)


def single_file(entry: str, docstring: str, main: str) -> bytes:
    """Concatenate a module (its path below runtime/) and what it imports into one program.

    Only imports at the top level count. Imports of one another go; imports of modules that are not
    included become absolute (`runtime.x`), which only works inside functions. Top-level names must
    be unique.
    """
    modules = _with_imports(entry)
    imports: dict[str, None] = {}
    typing_imports: dict[str, None] = {}
    bodies = []
    for module in modules:
        body, top, typed = _dissect(module, modules)
        imports |= dict.fromkeys(top)
        typing_imports |= dict.fromkeys(typed)
        bodies.append(f"# ---- runtime/{module}.py ----\n\n{body}")
    typing = "TYPE_CHECKING = False\nif TYPE_CHECKING:\n" + "".join(
        f"    {line}\n" for line in _merged(typing_imports)
    )
    header = "".join(f"{line}\n" for line in _merged(imports))
    text = "\n\n".join([docstring + "\n" + header + "\n" + typing, *bodies, main])
    return text.encode()


def _with_imports(entry: str) -> dict[str, None]:
    """Return the modules of a program, dependencies first."""
    modules: dict[str, None] = {}

    def add(module: str) -> None:
        for node in _parsed(module)[1].body:
            imported = _imported(module, node)
            if imported and imported not in modules:
                add(imported)
        modules[module] = None

    add(entry)
    return modules


@cache
def _parsed(module: str) -> tuple[str, ast.Module]:
    source = (_ROOT / f"{module}.py").read_text(encoding="utf-8")
    return source, ast.parse(source)


def _imported(module: str, node: ast.AST) -> str | None:
    """Return the module of runtime/ that a statement imports from, or None."""
    if not isinstance(node, ast.ImportFrom) or not node.level:
        return None
    folders = module.split("/")[: -node.level]
    return "/".join([*folders, *(node.module or "").split(".")])


def _dissect(module: str, included: Collection[str]) -> tuple[str, list[str], list[str]]:
    """Split a module into body, top-level imports and imports for type checkers."""
    source, tree = _parsed(module)
    lines = source.split("\n")
    imports: list[str] = []
    typed: list[str] = []
    for node in _statements(tree):
        imported = _imported(module, node)
        if isinstance(node, ast.ImportFrom) and imported:
            _replace_import(lines, node, None if imported in included else imported)
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if not getattr(node, "level", 0):
                imports.append(ast.unparse(node))
        elif _is_type_checking(node):
            assert isinstance(node, ast.If)  # noqa: S101 - narrows the type for mypy
            typed += [
                ast.unparse(inner)
                for inner in node.body
                if not (isinstance(inner, ast.ImportFrom) and inner.level)
            ]
        elif not _is_dropped(node):
            continue
        _blank(lines, node)
    return "\n".join(lines).strip("\n") + "\n", imports, typed


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements in *node*; `ast.walk` visits all expressions, too, which is slow."""
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        inner = getattr(node, name, None)
        for child in inner if isinstance(inner, list) else ():
            yield child
            yield from _statements(child)


def _merged(statements: Iterable[str]) -> list[str]:
    """Merge `from x import y` lines by module; imports first, then other statements."""
    names: dict[str, set[str]] = {}
    plain: list[str] = []
    others: list[str] = []
    for statement in statements:
        words = statement.split(" ", 3)
        if words[0] == "from":
            names.setdefault(words[1], set()).update(words[3].split(", "))
        else:
            (plain if words[0] == "import" else others).append(statement)
    merged = [
        f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)
    ]
    return [*sorted(plain), *merged, *others]


def _replace_import(lines: list[str], node: ast.ImportFrom, imported: str | None) -> None:
    """Make an import of the module *imported* absolute; remove it for None."""
    indent = lines[node.lineno - 1][: node.col_offset]
    _blank(lines, node)
    if imported is not None:
        names = ", ".join(
            f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            for alias in node.names
        )
        module = ".".join(["runtime", *imported.split("/")])
        lines[node.lineno - 1] = f"{indent}from {module} import {names}"


def _is_type_checking(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def _is_dropped(node: ast.stmt) -> bool:
    """True for module docstrings, `TYPE_CHECKING = False` and `if __name__ == "__main__"`."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node) == "TYPE_CHECKING = False"
    if isinstance(node, ast.Expr):
        return node.lineno == 1
    return isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__")


def _blank(lines: list[str], node: ast.stmt) -> None:
    for number in range(node.lineno - 1, node.end_lineno or node.lineno):
        lines[number] = ""
