"""Print what this Python interpreter is, as one JSON object; run as a program, with -I.

`path` is that of the base interpreter where this is a virtual environment. Old Pythons run this
too, so that they can be passed over with a reason.
"""

import json
import os
import struct
import sys
import sysconfig


def describe() -> "dict[str, object]":
    """Return the description."""
    path = sys.executable
    if sys.prefix != sys.base_prefix:
        abi = getattr(sys, "abiflags", "")
        inner = "bin/python%d.%d%s" % (sys.version_info[0], sys.version_info[1], abi)  # noqa: UP031
        base = os.path.join(sys.base_prefix, "python.exe" if os.name == "nt" else inner)
        path = base if os.path.exists(base) else getattr(sys, "_base_executable", path)
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        libc = ""
    return {
        "path": os.path.realpath(path),
        "version": list(sys.version_info[:3]),
        "release": sys.version_info[3],
        "implementation": sys.implementation.name,
        "free-threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "libc": libc.split(" ")[0],
        "bits": struct.calcsize("P") * 8,
    }


if __name__ == "__main__":
    print(json.dumps(describe()))
