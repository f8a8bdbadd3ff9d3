"""Make one environment in the cache, and check it before it is used."""

import json
import os
import sys

from ...disk.files import disk_usage, free_space, write_atomic
from ...disk.node_identity import boot_id
from ...disk.safe_folder import flush_tree
from ...errors import BundleError, IntegrityError, first_problems
from ...python.platforms import dotted_version
from ..images.mount import FOLDER, remove_environment
from ..os_errors import explain_os_error
from ..trusted_bundle import DAMAGED_HINT
from ..warm_start import marker_path
from .bundled_python import unpack_interpreter
from .bytecode import UnpackedBytecode
from .check import check_environment
from .contents import CONTENTS, write_contents
from .failed_attempts import check_room, remember_failure, remove_rest
from .image import mount_checked, unpack_image, verified_identity
from .install import Tool, find_uv, install_with_pip, install_with_uv
from .linked import link_environment, link_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ...disk.locks import FileLock
    from ..request import Request
    from .plan import Plan


def make_environment(
    home: str, plan: "Plan", request: "Request", cache: str, lock: "FileLock"
) -> None:
    """Make the environment at *home*, whose *lock* is held; a failure removes it.

    The marker of completeness is written last, after the result was checked: exit codes alone are
    not reliable where a parent ignores SIGCHLD or a wrapper hides a failure.
    """
    verified = verified_identity(home)
    remove_environment(home)  # what a killed attempt left, or one whose image is not mounted now
    free = free_space(cache)
    facts: dict[str, object] = {
        "interpreter": plan.interpreter.path,
        "lock": plan.lock.lock,
        "script": request.name,
    }
    try:
        unpack_interpreter(plan, request)
        if plan.is_mounted:
            facts["image"] = _mount(home, plan, request, verified)
        elif plan.image:
            _unpack(home, plan, request, cache)
        elif plan.ready_environment:
            _link(home, plan, request, plan.ready_environment)
        else:
            _install(Tool(home, cache, lock, request), home, plan, request)
        facts["size"] = disk_usage(os.path.join(home, "env") if plan.is_mounted else home)
        _mark_complete(home, facts, is_mounted=plan.is_mounted)
    except BaseException as failure:
        remove_environment(home)
        remove_rest(plan, cache)
        error = explain_os_error(failure, cache) if isinstance(failure, OSError) else failure
        if isinstance(error, BundleError) and not plan.is_mounted:
            remember_failure(home, error, free)
        raise


def _mark_complete(home: str, facts: "dict[str, object]", *, is_mounted: bool) -> None:
    """Write the marker of completeness. No job waits for the disk if damage is found later.

    After a power cut, a complete environment must not have empty files: it is checked before it is
    used in another boot. What has no record of its files is flushed now. No mount outlives a boot.
    """
    boot = "" if is_mounted or not os.path.exists(os.path.join(home, CONTENTS)) else boot_id()
    if boot:
        facts = {**facts, "boot": boot}
    elif not is_mounted:
        flush_tree(home)
    content = json.dumps(facts, indent=1).encode()
    write_atomic(marker_path(home), content, durable=not (boot or is_mounted))


def _report_noexec(
    folder: str,
    request: "Request",
    remedy: str = "set OFFLINE_BUNDLE_CACHE to a folder on another one",
) -> None:
    """Print *remedy* where compiled modules cannot be loaded from *folder*."""
    if sys.platform == "linux" and os.statvfs(folder).f_flag & os.ST_NOEXEC:
        request.log(
            f"note: {folder} is on a file system mounted noexec: compiled modules cannot be loaded "
            f"from it; {remedy}"
        )


def _mount(home: str, plan: "Plan", request: "Request", verified: object) -> object:
    """Mount the image of the environment; return the identity of the file that was verified."""
    os.mkdir(home, 0o700)
    identity = mount_checked(home, plan, request, verified)
    link_image(os.path.join(home, "env"), plan, os.path.join(home, FOLDER))
    check_environment(home, plan)
    return identity


def _unpack(home: str, plan: "Plan", request: "Request", cache: str) -> None:
    """Unpack the image of the environment."""
    os.mkdir(home, 0o700)
    _report_noexec(home, request)
    unpack_image(home, plan, request, cache)
    programs = link_image(os.path.join(home, "env"), plan, os.path.join(home, FOLDER))
    check_environment(home, plan)
    if os.path.exists(os.path.join(home, FOLDER, CONTENTS)):
        write_contents(home, [], programs)


def _link(home: str, plan: "Plan", request: "Request", environment: str) -> None:
    """Link to the ready environment that the bundle includes."""
    request.log(f"Linking to {environment}", 1)
    os.mkdir(home, 0o700)
    copied = link_environment(os.path.join(home, "env"), plan)
    _report_noexec(environment, request, "copy the bundle to another one")
    check_environment(home, plan)
    if copied is not None:
        write_contents(home, [], copied)


def _install(tool: Tool, home: str, plan: "Plan", request: "Request") -> None:
    """Install the lock's wheels into an environment of this node, with the bundle's bytecode."""
    _check_files(plan)
    check_room(plan, tool.cache)
    os.mkdir(home, 0o700)
    _report_noexec(home, request)
    uv = find_uv(plan, tool.cache)  # a thread that unpacks bytecode would slow the copy down
    with UnpackedBytecode(plan, request, os.path.join(home, "bytecode")) as bytecode:
        _run_installer(tool, uv, plan, request)
        magic, folders = check_environment(home, plan)
        bytecode.place(magic, folders)
        write_contents(home, folders, bytecode.placed)


def _run_installer(tool: Tool, uv: "Optional[str]", plan: "Plan", request: "Request") -> None:
    count = len(plan.lock.packages)
    packages = f"{count} package{'' if count == 1 else 's'}"
    python = f"Python {dotted_version(plan.interpreter.version)}"
    request.log(
        f"Preparing the environment of {request.name} ({packages}, {python}) once for this node ..."
    )
    if uv:
        install_with_uv(tool, uv, plan)
    else:
        request.log("uv: not in the bundle for this node, nor on PATH; installing with pip", 1)
        install_with_pip(tool, plan)


def _check_files(plan: "Plan") -> None:
    """Raise one error for all wheels and bytecode that are missing or truncated.

    Their hashes are checked when they are installed.
    """
    problems = []
    files = plan.bundle.manifest.files
    wheels = sorted({package.wheel for package in plan.lock.packages.values()})
    for name in [*wheels, *plan.bytecode()]:
        path, size = plan.bundle.path(name), files[name].size
        if not os.path.isfile(path):
            problems.append(f"{name} is missing")
        elif os.path.getsize(path) != size:
            problems.append(f"{name} has {os.path.getsize(path)} bytes instead of {size}")
    if problems:
        message = f"the bundle {plan.bundle.folder} is damaged"
        raise IntegrityError(message, hint=DAMAGED_HINT, problems=first_problems(problems))
