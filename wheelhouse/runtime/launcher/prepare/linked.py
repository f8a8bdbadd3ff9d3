"""Make an environment whose packages are elsewhere, in a ready environment."""

import os

from ...bundle.policy import may_be_in_force
from ...disk.files import write_atomic
from ...errors import IntegrityError
from ...names import ENVIRONMENT_MARK
from ...python.platforms import dotted_version
from ..trusted_bundle import DAMAGED_HINT
from .contents import checksums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Optional

    from .contents import FileTable
    from .plan import Plan


def link_environment(folder: str, plan: "Plan") -> "Optional[FileTable]":
    """Make an environment whose packages stay in the bundle; return the checksums of its programs.

    Under a signature policy, all is here: exactly the files that the manifest names, as they were
    checked. Then the result is None.
    """
    prefix = f"{plan.lock.environment}/"
    names = [name for name in plan.bundle.manifest.files if name.startswith(prefix)]
    if may_be_in_force():
        _copy_environment(folder, plan, {name: name[len(prefix) :] for name in names})
        return None
    packages = _packages(plan)
    tops = {name[len(prefix) :].partition("/")[0] for name in names}
    for link in (*tops, packages):
        source = plan.bundle.path(prefix + link)
        if not os.path.exists(source) and any(name.startswith(prefix + link) for name in names):
            raise IntegrityError(f"{source} is missing", hint=DAMAGED_HINT)
    _link(folder, plan, plan.bundle.path(str(plan.lock.environment)), tops)
    programs = (name for name in names if name.startswith(f"{prefix}bin/"))
    return _write_programs(
        folder, ((os.path.basename(name), plan.bundle.read(name)) for name in programs)
    )


def link_image(folder: str, plan: "Plan", source: str) -> "FileTable":
    """Make an environment whose packages are in the open image at *source*.

    Return the checksums of the programs that were copied.
    """
    _link(folder, plan, source, os.listdir(source))
    programs = os.path.join(source, "bin")
    names = os.listdir(programs) if os.path.isdir(programs) else []
    return _write_programs(folder, ((name, _read(os.path.join(programs, name))) for name in names))


def _copy_environment(folder: str, plan: "Plan", names: "Mapping[str, str]") -> None:
    """Copy the files *names* (path in the bundle -> in the environment), and no others.

    In the bundle, users with write access could add files, such as x.pth, or change them later.
    """
    write_interpreter(folder, plan)
    for name, relative in names.items():
        if relative == ENVIRONMENT_MARK:
            continue
        target = os.path.join(folder, *relative.split("/"))
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        is_program = relative.startswith("bin/") or plan.bundle.manifest.files[name].executable
        plan.bundle.copy(name, target, mode=0o700 if is_program else 0o600)


def write_interpreter(folder: str, plan: "Plan") -> None:
    """Write bin/python and pyvenv.cfg, which make *folder* a virtual environment (PEP 405)."""
    os.makedirs(os.path.join(folder, "bin"), mode=0o700)
    for link in ("python", "python3", plan.interpreter.name):
        os.symlink(plan.interpreter.path, os.path.join(folder, "bin", link))
    lines = [
        f"home = {os.path.dirname(plan.interpreter.path)}",
        "include-system-site-packages = false",
        f"version = {dotted_version(plan.interpreter.version)}",
    ]
    content = os.fsencode("\n".join(lines) + "\n")
    write_atomic(os.path.join(folder, ENVIRONMENT_MARK), content)


def _packages(plan: "Plan") -> str:
    return os.path.join("lib", plan.interpreter.name, "site-packages")


def _link(folder: str, plan: "Plan", source: str, tops: "Iterable[str]") -> None:
    """Link to the folders at *source*; only what depends on the node is made here."""
    packages = _packages(plan)
    os.makedirs(os.path.join(folder, os.path.dirname(packages)), mode=0o700)
    write_interpreter(folder, plan)
    for link in [*sorted(set(tops) - {"bin", "lib", ENVIRONMENT_MARK}), packages]:
        if os.path.isdir(os.path.join(source, link)):
            os.symlink(os.path.join(source, link), os.path.join(folder, link))


def _write_programs(folder: str, programs: "Iterable[tuple[str, bytes]]") -> "FileTable":
    """Copy programs to bin/, where they find the interpreter beside them."""
    table = {}
    for name, content in programs:
        write_atomic(os.path.join(folder, "bin", name), content, mode=0o700)
        table[os.path.join(os.path.basename(folder), "bin", name)] = checksums(content)
    return table


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
