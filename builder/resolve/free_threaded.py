"""Resolving for free-threaded builds of Python (PEP 703) with an interpreter that is not one.

uv takes version and platform from flags, but whether the wheels are for a free-threaded build (`cp314t`, and no `abi3`)
from the interpreter that it asks, and these builds are rare on the machines that bundles are made on. So uv is shown a
virtual environment of our own interpreter that answers this one question as a free-threaded one does. Nothing is ever
built with it, nor installed to be run.
"""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path

_ANSWER = """import sysconfig

sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
"""


def fake_free_threaded_python(folder: Path) -> str:
    """Path of an interpreter in *folder*, made when it is not there, that uv takes for a free-threaded one."""
    maker = venv.EnvBuilder(symlinks=True)
    context = maker.ensure_directories(folder)
    if not (folder / "pyvenv.cfg").exists():
        maker.create(folder)
        # `sitecustomize` is run by every start of the interpreter: https://docs.python.org/3/library/site.html
        base = {"base": str(folder), "platbase": str(folder)}
        packages = sysconfig.get_path("purelib", scheme="venv", vars=base)
        (Path(packages) / "sitecustomize.py").write_text(_ANSWER, encoding="utf-8")
    return str(context.env_exe)
