"""Import the modules of the launcher from one file of the bundle, `runtime/modules-DIGEST.txt`.

A shared file system answers one open sooner than fifty. The file has the same text as the files of
`runtime/`, each after a line with its path, and a last line. Without the file, or if it was cut,
the launcher reads those. `run.py` names the file, so an update in progress does not mix two
launchers.
"""

import os
import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Optional

_BANNER, _BANNER_END = "# ---- ", " ----"
_LAST_LINE = f"{_BANNER}end{_BANNER_END}\n"


def render_modules(sources: "dict[str, str]") -> str:
    """Return the file for *sources*, by path; raise ValueError where a source has such a line."""
    for path, source in sources.items():
        if f"\n{_BANNER}" in f"\n{source}" or (source and not source.endswith("\n")):
            raise ValueError(f"{path} has a line that begins with {_BANNER!r}, or no last line end")
    sections = [f"{_BANNER}{path}{_BANNER_END}\n{sources[path]}" for path in sorted(sources)]
    return "".join([*sections, _LAST_LINE])


def use_modules_file(folder: str, name: str) -> None:
    """Import `runtime` and its modules from runtime/*name* in *folder*, if it is there.

    Then *folder* is no longer searched for modules: each import of another one would ask for it.
    """
    try:
        with open(os.path.join(folder, "runtime", name), encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, ValueError):
        return
    if not text.endswith(_LAST_LINE):
        return
    modules = {}
    for section in f"\n{text[: -len(_LAST_LINE)]}".split(f"\n{_BANNER}")[1:]:
        path, _, source = section.partition(_BANNER_END)
        name = path[: -len(".py")].replace("/", ".")
        is_package = name.endswith(".__init__")
        origin = os.path.join(folder, *path.split("/"))
        modules[name.replace(".__init__", "")] = _Source(origin, f"{source[1:]}\n", is_package)
    sys.meta_path.insert(0, _Finder(modules))
    sys.path[:] = [entry for entry in sys.path if entry != folder]


class _Source:
    """The source of a module, and the file of the same text."""

    def __init__(self, origin: str, text: str, is_package: bool) -> None:  # noqa: FBT001 - private
        self.origin = origin
        self.text = text
        self.is_package = is_package


class _Finder:
    """Finds and loads modules (see importlib.abc.MetaPathFinder and Loader)."""

    def __init__(self, modules: "dict[str, _Source]") -> None:
        self._modules = modules

    def find_spec(
        self,
        name: str,
        path: "Optional[Sequence[str]]" = None,  # noqa: ARG002 - the interface
        target: "Optional[ModuleType]" = None,  # noqa: ARG002 - the interface
    ) -> "Optional[ModuleSpec]":
        """Return the spec of a module in the file, or None."""
        source = self._modules.get(name)
        if source is None:
            return None
        # type: the import system uses no other methods than those here
        spec = ModuleSpec(name, self, origin=source.origin, is_package=source.is_package)  # type: ignore[arg-type]
        spec.has_location = True
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        """Let the import system create it."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run the source of a module."""
        source = self._modules[module.__name__]
        exec(compile(source.text, source.origin, "exec"), module.__dict__)  # noqa: S102 - a loader
