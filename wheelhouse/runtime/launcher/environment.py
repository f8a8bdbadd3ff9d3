"""Make one environment in the cache."""

import os

from ..errors import IntegrityError
from ..files import disk_usage, write_atomic
from ..names import MANIFEST
from ..platforms import dotted_version
from ..policy import may_be_in_force
from .bundled_python import unpack_interpreter
from .install import Tool, find_uv, install_with_pip, install_with_uv
from .trusted_manifest import DAMAGED_HINT, read_verified
from .warm_start import marker_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..locks import FileLock
    from .lock_selection import Plan
    from .request import Request


def make_environment(
    home: str, plan: "Plan", request: "Request", cache: str, lock: "FileLock"
) -> None:
    """Make the environment at *home*, whose *lock* is held; after a failure nothing of it is left."""
    import json
    import shutil

    shutil.rmtree(home, ignore_errors=True)  # what an attempt that was killed has left
    try:
        unpack_interpreter(plan, request)
        if plan.ready:
            request.say(f"Linking to {plan.ready}", 1)
            os.mkdir(home, 0o700)
            _link_environment(os.path.join(home, "env"), plan.ready, plan, request.bundle)
        else:
            _install(home, plan, request, cache, lock)
        facts = {
            "interpreter": plan.interpreter.path,
            "lock": plan.lock["lock"],
            "size": disk_usage(home),
        }
        write_atomic(marker_path(home), json.dumps(facts, indent=1).encode())
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _install(home: str, plan: "Plan", request: "Request", cache: str, lock: "FileLock") -> None:
    """Install the lock's wheels into an environment of this node."""
    _check_wheels(plan, request.bundle)
    uv = find_uv(plan, request.bundle, cache)
    count = len(plan.lock["packages"])
    content = f"{count} package{'' if count == 1 else 's'}, Python {dotted_version(plan.interpreter.version)}"
    request.say(f"Preparing the environment of {request.name} ({content}) once for this node ...")
    os.mkdir(home, 0o700)
    tool = Tool(home, cache, lock, request)
    if uv:
        install_with_uv(tool, uv, plan, request.bundle)
    else:
        request.say(
            "There is no uv in the bundle for this node, nor on PATH: pip does its work.", 1
        )
        install_with_pip(tool, plan, request.bundle)


def _link_environment(place: str, ready: str, plan: "Plan", bundle: str) -> None:
    """Make an environment whose packages stay in the bundle: only what a node decides is here, and what is in bin/.

    A site with a policy on signatures wants to know what it runs: there each file is held against the manifest now.
    """
    inside = plan.lock["environment"] + "/"
    files = [name for name in plan.manifest["files"] if name.startswith(inside)]
    for name in files if may_be_in_force() else ():
        read_verified(bundle, plan.manifest, name)
    python = "python" + dotted_version(plan.interpreter.version[:2])
    packages = os.path.join("lib", python, "site-packages")
    os.makedirs(os.path.join(place, os.path.dirname(packages)), mode=0o700)
    os.mkdir(os.path.join(place, "bin"), 0o700)
    for link in ("python", "python3", python):
        os.symlink(plan.interpreter.path, os.path.join(place, "bin", link))
    home = os.path.dirname(plan.interpreter.path)
    lines = [
        f"home = {home}",
        "include-system-site-packages = false",
        f"version = {dotted_version(plan.interpreter.version)}",
    ]
    write_atomic(os.path.join(place, "pyvenv.cfg"), os.fsencode("\n".join(lines) + "\n"))
    tops = {name[len(inside) :].partition("/")[0] for name in files} - {"bin", "lib", "pyvenv.cfg"}
    for link in [*sorted(tops), packages]:
        if os.path.isdir(os.path.join(ready, link)):
            os.symlink(os.path.join(ready, link), os.path.join(place, link))
        elif any(name.startswith(inside + link) for name in files):
            raise IntegrityError(f"{os.path.join(ready, link)} is missing", hint=DAMAGED_HINT)
    for name in files:
        if name.startswith(inside + "bin/"):
            content = read_verified(bundle, plan.manifest, name)
            write_atomic(os.path.join(place, "bin", os.path.basename(name)), content, mode=0o700)


def _check_wheels(plan: "Plan", bundle: str) -> None:
    """Refuse, all at once, wheels that are missing or cut short; the installer checks their hashes."""
    problems = []
    for package, choice in sorted(plan.lock["packages"].items()):
        wheel = choice["wheel"]
        listed = plan.manifest["files"].get(wheel)
        path = os.path.join(bundle, wheel)
        if listed is None:
            problems.append(f"{wheel} ({package}) is not in {MANIFEST}")
        elif not os.path.isfile(path):
            problems.append(f"{wheel} is missing")
        elif os.path.getsize(path) != listed["size"]:
            problems.append(
                f"{wheel} has {os.path.getsize(path)} bytes instead of {listed['size']}"
            )
    if problems:
        raise IntegrityError(
            f"the bundle {bundle} is damaged:\n  " + "\n  ".join(problems), hint=DAMAGED_HINT
        )
