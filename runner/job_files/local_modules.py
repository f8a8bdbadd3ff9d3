"""Find the modules beside a script that it imports: they must travel with it as inputs."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from offline_bundle.runner.job_files.inputs import InputFile
from offline_bundle.wheelhouse.runtime.errors import InputError


def check_local_modules(script: Path, files: Sequence[InputFile]) -> None:
    """Raise `InputError` that offers `--input` for local modules that are not inputs.

    A file beside the script is imported in place of any package of that name, so a job without it
    would fail, or import another module. Modules that those import are found, too.
    """
    tops = {file.top for file in files}
    sources = [script, *(file.source for file in files if file.source.suffix == ".py")]
    missing: dict[Path, Path] = {}
    seen: set[Path] = set()
    while sources:
        source = sources.pop()
        if source in seen:
            continue
        seen.add(source)
        for module in _local_modules(source, script):
            if module.name not in tops:
                missing.setdefault(module, source)
                sources += sorted(module.rglob("*.py")) if module.is_dir() else [module]
    if missing:
        options = " ".join(f"--input {os.path.relpath(path)}" for path in sorted(missing))
        problems = [f"{source.name} imports {path.name}" for path, source in missing.items()]
        lines = problems if len(problems) > 1 else []
        message = f"{script.name} imports files beside it" if lines else problems[0]
        raise InputError(message, problems=lines, hint=f"add {options}")


def _local_modules(source: Path, script: Path) -> Iterator[Path]:
    """Yield the files and folders beside *script* that *source* imports."""
    try:
        names = set(_imported(ast.parse(source.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # Python reports it in the job
    for name in sorted(names - set(sys.builtin_module_names)):
        file, folder = script.parent / f"{name}.py", script.parent / name
        if (folder / "__init__.py").is_file():
            yield folder
        elif file.is_file():
            if not file.samefile(script):
                yield file
        elif name not in sys.stdlib_module_names and any(folder.glob("*.py")):
            yield folder  # a namespace package


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the top-level names of absolute imports, but not those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.level == 0 and child.module:
            yield child.module.partition(".")[0]
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imported(ast.Module([other], []))
        else:
            yield from _imported(child)
