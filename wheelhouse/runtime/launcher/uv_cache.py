"""Make a cache folder for this node's uv out of the cache in an offline bundle: BUNDLE/cache.

    export UV_CACHE_DIR=$(python3 BUNDLE/uv_cache.py)       then, with no network:   uv run SCRIPT
    python3 BUNDLE/uv_cache.py [--bundle DIR] [--uv PATH] [FOLDER]

--bundle DIR   the bundle (default: the folder of uv_cache.py)
--uv PATH      this node's uv (default: OFFLINE_BUNDLE_UV, else the one on PATH)
FOLDER         where to make it (default: a folder in the launcher's cache)

uv writes into its cache folder, also where it only reads: it cannot use one on a read-only share, and what it would
write into a bundle does not belong there. So FOLDER has links to the parts of BUNDLE/cache that are only read, and room
for the rest. A cache is good for the one version of uv that filled it; another version does not look at it, and would
say that there is no network. That is told here instead: exit 7.

Nothing but the standard library of Python 3.9 or newer; prepare.py beside this file does the common work.
"""

import hashlib
import os
import sys

TYPE_CHECKING = False  # `typing` itself is slow to import; type checkers take this name for true
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Optional

from ..cache_setup import cache_directory
from ..errors import BundleError, NotInBundleError, print_error
from .trusted_manifest import read_manifest

FOLDER = "cache"
USAGE = "usage: python3 BUNDLE/uv_cache.py [--bundle DIR] [--uv PATH] [FOLDER]"


def main(argv: "Optional[Sequence[str]]" = None, *, bundle: str = os.curdir) -> int:
    """Print the folder that is to be UV_CACHE_DIR; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    given: "dict[str, Optional[str]]" = {
        "--bundle": bundle,
        "--uv": None,
    }
    while len(words) > 1 and words[0] in given:
        given[words[0]], words = words[1], words[2:]
    if len(words) > 1 or any(word.startswith("-") for word in words):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        print(make(given["--bundle"] or os.curdir, words[0] if words else None, given["--uv"]))
    except BundleError as error:
        return print_error(error)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make(bundle: str, folder: "Optional[str]" = None, uv: "Optional[str]" = None) -> str:
    """Return the cache folder for *uv* (default: OFFLINE_BUNDLE_UV, else the one on PATH), made if need be.

    Raises LaunchError: 7 where the bundle has no cache, or none for that version of uv.
    """
    _check(bundle, read_manifest(bundle), uv)
    if folder is None:
        name = hashlib.sha256(os.fsencode(os.path.abspath(bundle))).hexdigest()[:16]
        folder = os.path.join(cache_directory(), "uv-cache-" + name)
    folder = os.path.abspath(folder)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for name in sorted(os.listdir(os.path.join(bundle, FOLDER))):
        source = os.path.join(bundle, FOLDER, name)
        if name.startswith(("archive-", "simple-", "wheels-")) and os.path.isdir(source):
            _bring(source, os.path.join(folder, name))
    return folder


def _check(bundle: str, manifest: "dict[str, Any]", uv: "Optional[str]") -> None:
    locks = [lock for script in manifest["scripts"].values() for lock in script["locks"].values()]
    versions = sorted({lock["cache"] for lock in locks if isinstance(lock.get("cache"), str)})
    if not versions:
        raise NotInBundleError(
            f"the bundle {bundle} has no cache for uv",
            hint="on the connected side: build-offline-bundle SCRIPT -o DIR --format cache; "
            f"or use what it has: UV_CONFIG_FILE={os.path.join(bundle, 'uv.toml')}",
        )
    program, found = _ask_uv(uv or os.environ.get("OFFLINE_BUNDLE_UV") or "uv")
    if found not in versions:
        raise NotInBundleError(
            f"the cache in {bundle} was filled by uv {' and '.join(versions)}; {program} is uv {found}, "
            "and does not find what another version has cached",
            hint=f"on the connected side: build-offline-bundle SCRIPT -o DIR --format cache --uv-version {found}; "
            f"or with any uv: UV_CONFIG_FILE={os.path.join(bundle, 'uv.toml')}",
        )


def _ask_uv(uv: str) -> "tuple[str, str]":
    """Return the path of a program and its version."""
    import shutil
    import subprocess

    program = shutil.which(uv)
    if not program:
        raise NotInBundleError(
            f"there is no {uv} that can be run here", hint="name this node's uv: --uv PATH"
        )
    done = subprocess.run([program, "--version"], capture_output=True, check=False)
    words = done.stdout.decode(errors="replace").split()
    if done.returncode or len(words) < 2 or words[0] != "uv":
        raise NotInBundleError(f"{program} is not uv", hint="name this node's uv: --uv PATH")
    return program, words[1]


def _bring(source: str, place: str) -> None:
    """Link to a part of the bundle's cache; copy what is not there yet where a link would not do."""
    import shutil

    if (
        sys.platform != "win32"
        and _is_writable(source)
        and (os.path.islink(place) or not os.path.exists(place))
    ):
        staged = f"{place}.{os.urandom(6).hex()}.partial"
        os.symlink(os.path.abspath(source), staged)
        os.replace(staged, place)
        return
    is_page = os.path.basename(source).startswith(
        "simple-"
    )  # the only files that an update changes
    for folder, _, names in os.walk(source):
        below = os.path.join(place, os.path.relpath(folder, source))
        os.makedirs(below, exist_ok=True)
        for name in names:
            target = os.path.join(below, name)
            if is_page or not os.path.exists(target):
                staged = f"{target}.{os.urandom(6).hex()}.partial"
                shutil.copyfile(os.path.join(folder, name), staged)
                os.replace(staged, target)


def _is_writable(source: str) -> bool:
    """Whether files have the mode that uv needs of them: what it copies keeps it, and it writes into some of that."""
    for folder, _, names in os.walk(source):
        for name in names:
            return bool(os.stat(os.path.join(folder, name)).st_mode & 0o200)
    return True
