"""Compare the imports of a script with what its wheels and its folder provide.

The modules of a wheel are those of its files: `scikit-learn` has the folder `sklearn`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from offline_bundle.builder.compose import LockedScript
from offline_bundle.builder.inputs.imports import imported_modules, likely_package
from offline_bundle.wheelhouse.runtime.text import printable

_MODULE_FILES = (".py", ".pyc", ".pyd", ".so")


def missing_imports(locks: Iterable[LockedScript]) -> list[str]:
    """Return a line for each import that neither a wheel nor a file beside the script provides."""
    lines: dict[str, None] = {}
    for lock in locks:
        script = lock.resolution.script
        folder = script.path.parent
        modules = {
            module: line
            for module, line in imported_modules(script.code).items()
            if not _is_beside(module, folder)
        }
        wheels = {str(canonicalize_name(wheel.name)): wheel.path for wheel in lock.wheels}
        label = printable(str(script.path))
        for module in _not_in_wheels(modules, wheels):
            package = likely_package(module)
            advice = f"add {package} to its" if package else "add its package to the"
            lines[
                f"{label}:{modules[module]}: imports {module}, which no package of its header "
                f"provides; {advice} dependencies"
            ] = None
    return list(lines)


def wheel_modules(wheel: Path) -> set[str]:
    """Return the modules of a wheel: `numpy`, and `ansys.dpf` of a namespace package (PEP 420)."""
    with zipfile.ZipFile(wheel) as archive:
        paths = [parts for name in archive.namelist() if (parts := _module_parts(name))]
    regular = {parts[0] for parts in paths if len(parts) > 1 and parts[1].startswith("__init__.")}
    modules = set()
    for parts in paths:
        names = [part.partition(".")[0] for part in parts]
        if names[0] in regular or (len(parts) == 1 and parts[0].endswith(_MODULE_FILES)):
            modules.add(names[0])
        elif len(parts) > 1:
            modules.add(".".join(names[:2]))
    return modules


def _is_beside(module: str, folder: Path) -> bool:
    name = module.partition(".")[0]
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _not_in_wheels(modules: Iterable[str], wheels: Mapping[str, Path]) -> list[str]:
    """Return *modules* that no wheel has; wheels with the name of a module are read first."""
    missing = list(modules)
    names = [str(canonicalize_name(module.partition(".")[0])) for module in missing]
    for name in dict.fromkeys([*(name for name in names if name in wheels), *wheels]):
        if not missing:
            break
        provided = wheel_modules(wheels[name])
        missing = [module for module in missing if not _is_provided(module, provided)]
    return missing


def _is_provided(module: str, provided: set[str]) -> bool:
    names = module.split(".")
    if names[0] in provided or ".".join(names[:2]) in provided:
        return True
    return len(names) == 1 and any(name.startswith(f"{module}.") for name in provided)


def _module_parts(name: str) -> Sequence[str]:
    """Return the path of a wheel's member in site-packages; empty for metadata and other data."""
    parts = name.split("/")
    if parts[0].endswith(".data"):
        parts = parts[2:] if parts[1] in {"platlib", "purelib"} else []
    if not parts or not parts[-1]:
        return ()
    return parts if parts[0].partition(".")[0].isidentifier() else ()
