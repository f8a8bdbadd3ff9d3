"""Resolve for free-threaded builds of Python (PEP 703) with an interpreter of another build.

Flags give uv the version and platform. Whether wheels must be for a free-threaded build (`cp314t`,
not `abi3`) it asks the interpreter, and these builds are rare on build machines. So uv gets a
virtual environment of the running interpreter that answers as a free-threaded one does.
Nothing is built with it or installed into it.
"""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path

_ANSWER = """import sysconfig

sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
"""


def fake_free_threaded_python(folder: Path) -> str:
    """Return an interpreter in *folder*, created if missing, that uv takes as free-threaded."""
    maker = venv.EnvBuilder(symlinks=True)
    context = maker.ensure_directories(folder)
    if not (folder / "pyvenv.cfg").exists():
        maker.create(folder)
        # `sitecustomize` runs at every start of the interpreter: https://docs.python.org/3/library/site.html
        base = {"base": str(folder), "platbase": str(folder)}
        packages = sysconfig.get_path("purelib", scheme="venv", vars=base)
        (Path(packages) / "sitecustomize.py").write_text(_ANSWER, encoding="utf-8")
    return str(context.env_exe)
