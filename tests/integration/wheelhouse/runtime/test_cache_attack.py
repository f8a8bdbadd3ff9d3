"""Other users of a node and the cache folder: what the rule accepts, they cannot replace.

The user and the attacker are real users. So the tests need root, to become them.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse import runtime
from tests.support.launcher_cases import needs_root
from tests.support.node import python_for_everybody
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs_root

USER, ATTACKER, GROUP = 12341, 12342, 12343
RUNTIME = Path(runtime.__file__).parent
VERDICTS = """
import json, sys
from runtime.disk.cache_dir import cache_fault
print(json.dumps([cache_fault(path) is None for path in sys.argv[1:]]))
"""
ATTACK = """
import json, os, sys
def attack(cache):
    before = os.stat(cache)
    for operation in (
        lambda: os.mkdir(cache + "/x"),
        lambda: os.rename(cache, cache + ".old"),
        lambda: os.chmod(os.path.dirname(cache), 0o777) or os.rename(cache, cache + ".old"),
        lambda: os.rename(os.path.dirname(cache), os.path.dirname(cache) + ".old"),
    ):
        try:
            operation()
            return True
        except OSError:
            pass
    return False
print(json.dumps([attack(path) for path in sys.argv[1:]]))
"""
SHELL = """
for cache; do
    code=0
    OFFLINE_BUNDLE_CACHE=$cache sh bundle/run.sh job.py 2>errors || code=$?
    read -r _ line <errors
    case $code,$line in 1,*replaced*|1,*"your own"*) echo false ;; 7,*) echo true ;; *) cat errors ;; esac
done
"""


@pytest.fixture
def site() -> Iterator[Path]:
    """Return a folder that every user can read, with the launcher."""
    folder = Path(tempfile.mkdtemp(prefix="cache-attack-"))
    folder.chmod(0o755)
    shutil.copytree(RUNTIME, folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bundle").mkdir()
    (folder / "bundle/run.py").touch()
    shutil.copy(RUNTIME / "launcher/run.sh", folder / "bundle")
    (folder / "tools").mkdir()
    for name in ("ls", "mkdir", "sh"):
        (folder / "tools" / name).symlink_to(os.path.realpath(require(name)))  # no folder of links
    yield folder
    shutil.rmtree(folder)


def become(user: int, *groups: int) -> list[str]:
    more = [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    return [require("setpriv"), f"--reuid={user}", f"--regid={user}", *more]


def run(site: Path, user: list[str], code: str, caches: list[Path], **variables: str) -> list[bool]:
    command = [*user, python_for_everybody(), "-c", code, *map(str, caches)]
    done = subprocess.run(
        command, cwd=site, env=variables, capture_output=True, text=True, check=True
    )
    answers: list[bool] = json.loads(done.stdout)
    return answers


def make_caches(site: Path) -> dict[Path, str]:
    """Return caches of the user, in folders of each owner, group and mode: path -> description."""
    owners = {"root": 0, "user": USER, "attacker": ATTACKER}
    groups = {"root": 0, "user's": USER, "shared": GROUP}
    modes = (0o755, 0o775, 0o777, 0o1775, 0o1777)
    caches = {}
    for number, (owner, group, mode, is_link) in enumerate(
        itertools.product(owners, groups, modes, (False, True))
    ):
        above = site / str(number)
        above.mkdir()
        cache = above / "cache"
        if is_link:
            target = site / f"scratch-{number}"
            target.mkdir(mode=0o700)
            os.chown(target, USER, USER)
            cache.symlink_to(target)
            os.chown(cache, USER, USER, follow_symlinks=False)
        else:
            cache.mkdir(mode=0o700)
            os.chown(cache, USER, USER)
        os.chown(above, owners[owner], groups[group])
        above.chmod(mode)
        caches[cache] = f"{'link' if is_link else 'folder'} in {mode:04o} of {owner}, {group}"
    for owner_id, group_id in itertools.product((0, USER), (0, USER, GROUP)):
        above = site / f"list-{owner_id}-{group_id}"
        (above / "cache").mkdir(mode=0o700, parents=True)
        os.chown(above / "cache", USER, USER)
        os.chown(above, owner_id, group_id)
        try:
            os.setxattr(above, "system.posix_acl_access", access_list(ATTACKER))
        except OSError:  # a file system without access lists
            break
        caches[above / "cache"] = f"folder in one of {owner_id}, {group_id}, with an access list"
    return caches


def access_list(user: int) -> bytes:
    """Return an access list that lets *user* write, as acl(5) and <linux/posix_acl_xattr.h>."""
    none = 0xFFFFFFFF
    entries = [(1, 7, none), (2, 7, user), (4, 5, none), (0x10, 7, none), (0x20, 5, none)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_what_the_rule_accepts_no_other_user_can_replace(site: Path) -> None:
    """And run.sh accepts nothing that the launcher refuses."""
    caches = make_caches(site)
    user, attacker = become(USER), become(ATTACKER, GROUP)
    accepted = run(site, user, VERDICTS, [*caches])
    shell = [*user, os.path.realpath(require("sh")), "-c", SHELL, "sh", *map(str, caches)]
    (site / "errors").touch()
    os.chown(site / "errors", USER, USER)
    path = {"PATH": str(site / "tools")}
    done = subprocess.run(shell, cwd=site, env=path, capture_output=True, text=True, check=True)
    replaced = run(site, attacker, ATTACK, [*caches])
    assert True in accepted
    assert True in replaced
    rows = zip(caches.values(), accepted, done.stdout.splitlines(), replaced, strict=True)
    table = {name: row for name, *row in rows}
    assert [name for name, (ok, _, lost) in table.items() if ok and lost] == []
    assert [name for name, (ok, shell, _) in table.items() if shell != str(ok).lower()] == []


USE = """
import os, sys
from runtime.disk.cache_setup import private_directory
from runtime.errors import BundleError
used = 0
for number in range(60):
    try:
        folder = private_directory(sys.argv[1])
        with open(os.path.join(folder, str(number)), "w"):
            used += 1
    except (BundleError, OSError):
        pass
print(used)
"""
REPLACE = """
import os, sys
cache = sys.argv[1]
print(flush=True)
while True:
    for operation in (
        lambda: os.rename(cache, f"{cache}.{os.getpid()}"),
        lambda: os.rename(f"{cache}.mine", cache),
        lambda: os.symlink(f"{cache}.mine", cache),
        lambda: os.rename(cache, f"{cache}.mine"),
        lambda: os.rename(f"{cache}.{os.getpid()}", cache),
        lambda: os.unlink(cache),
    ):
        try:
            operation()
        except OSError:
            pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777, 0o1777], ids=oct)
def test_a_cache_that_is_replaced_all_the_time_gets_no_file_of_the_user(
    site: Path, mode: int
) -> None:
    """60 uses of the cache, while another user replaces it and a link in its place in a loop."""
    above = site / "above"
    above.mkdir()
    mine = above / "cache.mine"
    mine.mkdir(mode=0o777)
    mine.chmod(0o777)
    os.chown(mine, ATTACKER, ATTACKER)
    os.chown(above, USER if mode == 0o755 else 0, GROUP)
    above.chmod(mode)
    python, cache = python_for_everybody(), str(above / "cache")
    command = [*become(ATTACKER, GROUP), python, "-c", REPLACE, cache]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=site) as attacker:
        assert attacker.stdout
        attacker.stdout.readline()
        use = [*become(USER), python, "-c", USE, cache]
        done = subprocess.run(use, cwd=site, capture_output=True, text=True, check=True)
        attacker.kill()
    owners = {path.stat().st_uid for path in mine.rglob("*")} if mine.is_dir() else set()
    assert USER not in owners
    used = int(done.stdout)
    # in a folder with the sticky bit, the one that comes first keeps the name
    assert used == {0o755: 60, 0o775: 0, 0o777: 0}.get(mode, used)
