"""Launching with the bundle's interpreter: by run.py, or by run.sh on nodes without Python."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse.runtime.launcher.prepare.cache_cleanup import (
    remove_unused_interpreters,
)
from tests.support.bundles import (
    BundleScript,
    make_bundle,
    read_manifest,
    this_platform,
    write_manifest,
)
from tests.support.interpreters import KEY, VERSION, python_mirror
from tests.support.launcher_cases import UV, Node, needs_root, only
from tests.support.machine import pyenv_interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping
from tests.support.launch_python_cases import LIBC, SHOW, bare_root, node, run_bare, shell

__all__ = ["node"]


ROOT = Path(__file__).parents[4]


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the archive is made of a Linux Python"
)


def digest_of(node: Node) -> str:
    manifest = read_manifest(node.bundle)
    [python] = manifest["pythons"].values()
    return str(manifest["files"][python["path"]]["sha256"])


def has_bytecode_of_everything(node: Node) -> bool:
    """Whether there is some of a module that nobody here imports."""
    assert list((node.cache / "python").glob("*/python/lib/python3*/wave.py"))
    return bool(list((node.cache / "python").glob("*/python/lib/python3*/__pycache__/wave.*.pyc")))


def said(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    return answer


def test_the_bundles_interpreter_comes_first_and_is_unpacked_once(node: Node) -> None:
    first = node.run(node.script(), "a")
    assert said(first) == [
        "1.0",
        ["a"],
        str(node.cache / "python" / digest_of(node) / "python"),
        [*sys.version_info[:3]],
    ]
    assert f"Unpacking Python {VERSION} once" in first.stderr
    assert not has_bytecode_of_everything(node), "jobs write what they import"
    assert node.run(node.script(), "a").stderr == ""
    shutil.rmtree(node.cache / "environments")
    again = node.run(node.script())
    assert "Unpacking" not in again.stderr
    assert "Preparing" in again.stderr


def test_it_is_used_by_a_launcher_that_runs_on_another_python(node: Node) -> None:
    done = node.run(
        node.script(), python=pyenv_interpreter("3.9"), variables={"PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert said(done)[3] == [*sys.version_info[:3]]
    assert has_bytecode_of_everything(node), "jobs must not write any"


def test_another_one_is_used_where_it_is_asked_for(node: Node) -> None:
    done = node.run("--python", sys.executable, node.script())
    assert said(done)[2] == sys.base_prefix
    assert not (node.cache / "python").exists()


@pytest.mark.slow
def test_many_jobs_that_start_at_once_unpack_it_once(node: Node) -> None:
    command = node.command("-v", node.script())
    jobs = [
        subprocess.Popen(command, env=node.environ(), stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    texts = [job.communicate()[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 5, texts
    assert sum("Unpacking" in text for text in texts) == 1


def test_a_damaged_interpreter_is_unpacked_again_for_a_new_environment(node: Node) -> None:
    said(node.run(node.script()))
    [module] = (node.cache / "python").glob("*/python/lib/python3*/wave.py")
    whole = module.read_bytes()
    module.write_bytes(whole[:100])
    shutil.rmtree(node.cache / "environments")
    done = node.run(node.script())
    assert said(done)[0] == "1.0"
    assert f"{module} is damaged: unpacking it again" in done.stderr
    assert module.read_bytes() == whole


def test_an_unpack_that_was_killed_is_done_anew(node: Node) -> None:
    left = node.cache / "python" / digest_of(node)
    left.mkdir(parents=True, mode=0o700)
    node.cache.chmod(0o700)
    (left / "python").write_text("half")
    assert said(node.run(node.script()))[0] == "1.0"


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_an_archive_that_does_not_match_is_refused(node: Node, damage: str) -> None:
    [archive] = node.bundle.glob("python/*/*")
    content = archive.read_bytes()
    if damage == "missing":
        archive.unlink()
    else:
        archive.write_bytes(content[:-100] + (bytes(100) if damage == "changed" else b""))
    assert archive.name in node.failure(5, node.script()).replace("\n", "")
    assert not list((node.cache / "python").glob("*/*"))


def hostile(folder: Path, name: str, link: str = "") -> Path:
    path = folder / "20260101" / "cpython-hostile.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = (
            (tarfile.SYMTYPE, link, 0) if link else (tarfile.REGTYPE, "", 5)
        )
        tar.addfile(info, io.BytesIO(b"owned"))
    return path


@pytest.mark.parametrize(
    ("name", "link", "reason"),
    [
        ("python/../../../owned", "", "leaves the folder python"),
        ("python/lib", "/etc", "leads out"),
        ("python/bin/pythonX", "", "has no python"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    name: str, link: str, reason: str, tmp_path: Path
) -> None:
    node = Node(tmp_path)
    make_bundle(node.bundle, archive=hostile(tmp_path, name, link))
    assert reason in node.failure(5, "-q", node.script(), variables={"PATH": ""}).replace("\n", " ")
    assert not list(tmp_path.rglob("owned"))
    assert not list((node.cache / "python").glob("*/*"))


def test_an_interpreter_that_is_another_version_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path)
    minor = ".".join(map(str, sys.version_info[:2]))
    make_bundle(node.bundle, archive=python_mirror().archive, archive_version=f"{minor}.99")
    assert f"is Python {VERSION}, not {minor}.99 as bundle.json has it" in node.failure(
        5, "-q", node.script()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": "3.2"},
        {"version": "4.5.6"},
        {"path": "../../python.tar.gz"},
        {"path": None},
    ],
)
def test_wrong_manifest_entry_is_refused(node: Node, change: Mapping[str, Any]) -> None:
    manifest = read_manifest(node.bundle)
    for python in manifest["pythons"].values():
        python.update(change)
    write_manifest(node.bundle, manifest)
    node.failure(5, node.script())


def test_a_digest_that_would_lead_elsewhere_is_refused(node: Node) -> None:
    manifest = read_manifest(node.bundle)
    [python] = manifest["pythons"].values()
    manifest["files"][python["path"]]["sha256"] = "../../elsewhere"
    (node.bundle / "bundle.json").write_text(json.dumps(manifest))
    node.failure(5, node.script())


def test_interpreter_that_does_not_run_here_is_named(node: Node) -> None:
    change = "bundled_python.describe_interpreter = lambda *_: 'does not start'"
    done = node.run_changed(change, node.script())
    assert done.returncode == 7
    assert f"the bundle's Python {VERSION}" in done.stderr
    assert "does not run on this node" in done.stderr


def test_a_launcher_that_was_copied_without_it_says_what_is_missing(node: Node) -> None:
    (node.bundle / "runtime" / "launcher" / "prepare" / "python_archive.py").unlink()
    only(node.bundle, "runtime/modules-*.txt").unlink()
    said = node.failure(1, node.script())
    assert (
        "runtime is incomplete: No module named 'runtime.launcher.prepare.python_archive'" in said
    )


def test_modules_that_were_cut_are_read_from_their_files(node: Node) -> None:
    modules = only(node.bundle, "runtime/modules-*.txt")
    content = modules.read_bytes()
    for size in (0, len(content) // 3, len(content) * 2 // 3, len(content) - 1):
        modules.write_bytes(content[:size])
        said(node.run("-q", node.script()))
        shutil.rmtree(node.cache)


def test_a_damaged_launcher_is_named(node: Node) -> None:
    only(node.bundle, "runtime/modules-*.txt").unlink()
    module = node.bundle / "runtime" / "launcher" / "cold_start.py"
    module.write_bytes(module.read_bytes()[:-700])
    printed = node.failure(1, node.script())
    assert "runtime is damaged: " in printed
    assert "hint: copy the folder runtime/" in printed


@pytest.mark.slow
def test_it_is_pruned_when_nobody_uses_it(node: Node) -> None:
    said(node.run(node.script()))
    home = node.cache / "python" / digest_of(node)
    os.utime(home / "complete.json", (0, 0))
    remove_unused_interpreters(str(node.cache), 1000.0)
    assert home.is_dir(), "an environment uses it"
    shutil.rmtree(node.cache / "environments")
    (node.cache / "environments").mkdir()
    remove_unused_interpreters(str(node.cache), 1000.0)
    assert not home.exists()
    assert said(node.run(node.script()))[0] == "1.0"


@pytest.mark.slow
@pytest.mark.no_network
def test_sealed_jobs_run_with_it(node: Node, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "offline_bundle",
        "run",
        str(node.script()),
        "--bundle",
        str(node.bundle),
    ]
    command += ["-j", "2", "--sealed", "--output", str(tmp_path / "jobs"), "--json"]
    variables = {**os.environ, **node.variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    texts = [path.read_text() for path in (tmp_path / "jobs").rglob("*") if path.is_file()]
    assert any(str(node.cache / "python" / digest_of(node)) in text for text in texts)


@pytest.fixture
def bare_node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    assert UV
    make_bundle(
        node.bundle,
        {"eval": BundleScript(body=SHOW)},
        archive=python_mirror().archive,
        uv=Path(UV),
        uv_platform=this_platform(),
    )
    only(node.bundle, "uv/*/*/uv").chmod(0o755)
    manifest = read_manifest(node.bundle)
    lines = [f"{file['sha256']}  {name}\n" for name, file in manifest["files"].items()]
    (node.bundle / "SHA256SUMS").write_text("".join(lines))
    return node


WITH_GCC = (*LIBC, "libgcc_s.so.1")


def test_a_job_runs_in_a_root_without_any_python(bare_node: Node) -> None:
    command = bare_root(
        bare_node, "/share/bundle/run.sh", "eval.py", "a", "b c", libraries=WITH_GCC
    )
    first = run_bare(*command)
    prefix = f"/node/.cache/offline-bundle/bootstrap/{KEY}"
    assert said(first) == ["1.0", ["a", "b c"], prefix, [*sys.version_info[:3]]]
    assert "started unchecked" in first.stderr
    again = run_bare(*command)
    assert said(again) == said(first)
    assert again.stderr == ""


def test_run_sh_checks_uv_and_the_digests_first(bare_node: Node) -> None:
    tools = ("cp", "mkdir", "rm", "sha256sum")
    libraries = (
        *WITH_GCC,
        "libselinux.so.1",
        "libattr.so.1",
        "libacl.so.1",
        "libcrypto.so.3",
        "libpcre2-8.so.0",
    )
    command = bare_root(
        bare_node, "/share/bundle/run.sh", "eval.py", libraries=libraries, tools=tools
    )
    done = run_bare(*command)
    assert said(done)[0] == "1.0"
    assert "unchecked" not in done.stderr
    left = {
        path.name for path in (bare_node.folder / "node/.cache/offline-bundle/bootstrap").iterdir()
    }
    assert not [name for name in left if name.startswith(("uv.", "downloads.", "python."))], left
    shutil.rmtree(bare_node.folder / "node")
    uv = only(bare_node.bundle, "uv/*/*/uv").relative_to(bare_node.bundle).as_posix()
    for name in (uv, "python-downloads.json"):
        original = (bare_node.bundle / name).read_bytes()
        (bare_node.bundle / name).write_bytes(original + b" ")
        refused = run_bare(
            *bare_root(
                bare_node, "/share/bundle/run.sh", "eval.py", libraries=libraries, tools=tools
            )
        )
        assert refused.returncode == 5, refused.stderr
        assert f"{name} does not match SHA256SUMS" in refused.stderr
        (bare_node.bundle / name).write_bytes(original)


def test_an_archive_that_does_not_match_is_not_unpacked(bare_node: Node) -> None:
    [archive] = bare_node.bundle.glob("python/*/*")
    archive.write_bytes(archive.read_bytes()[:-5] + b"12345")
    done = run_bare(*bare_root(bare_node, "/share/bundle/run.sh", "eval.py", libraries=WITH_GCC))
    assert done.returncode == 1
    assert "uv could not unpack the bundle's Python" in done.stderr
    assert done.stdout == ""


def test_a_python_on_path_starts_it(bare_node: Node, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(pyenv_interpreter("3.8"))
    (tmp_path / "bin/python3.9").symlink_to(pyenv_interpreter("3.9"))
    done = shell(bare_node, str(bare_node.script()), PATH=str(tmp_path / "bin"))
    assert said(done)[0] == "1.0"
    assert not (tmp_path / ".cache/offline-bundle/bootstrap").exists()


def test_under_a_policy_nothing_of_the_bundle_is_started(bare_node: Node) -> None:
    done = shell(bare_node, "eval.py", OFFLINE_BUNDLE_POLICY="/some/policy.json")
    assert done.returncode == 6
    assert "requires signatures" in done.stderr


def test_run_sh_reports_its_errors(bare_node: Node, tmp_path: Path) -> None:
    assert "set OFFLINE_BUNDLE_CACHE" in shell(bare_node, "eval.py", HOME="").stderr
    (tmp_path / "mine").mkdir()
    tools = {name: shutil.which(name) for name in ("cp", "mkdir", "rm", "sha256sum")}
    for name, path in tools.items():
        (tmp_path / "mine" / name).symlink_to(str(path))
    limited = [
        "/bin/sh",
        "-c",
        'ulimit -f 8; exec /bin/sh "$0" eval.py',
        str(bare_node.bundle / "run.sh"),
    ]
    variables = {"PATH": str(tmp_path / "mine"), "HOME": str(tmp_path)}
    full = subprocess.run(limited, env=variables, capture_output=True, text=True, check=False)
    assert (full.returncode, "a folder with more room" in full.stderr) == (1, True)
    assert not list(tmp_path.glob(".cache/offline-bundle/bootstrap/*"))
    (bare_node.bundle / "python-downloads.json").unlink()
    lacking = shell(bare_node, "eval.py")
    assert (lacking.returncode, "--with-python" in lacking.stderr) == (7, True)
    (bare_node.bundle / "run.py").unlink()
    assert shell(bare_node, "eval.py").returncode == 2


@needs_root
def test_cache_that_others_may_have_linked_is_refused(bare_node: Node, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    cache = {"OFFLINE_BUNDLE_CACHE": str(tmp_path / "link")}
    assert shell(bare_node, str(bare_node.script()), **cache).returncode == 0
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "link").symlink_to(tmp_path / "mine")
    os.chown(theirs, 12345, 12345)
    refused = shell(bare_node, "eval.py", OFFLINE_BUNDLE_CACHE=str(theirs / "link"))
    assert refused.returncode == 1
    assert "is not a folder of your own" in refused.stderr


@pytest.mark.parametrize(
    ("mode", "above", "group", "is_refused"),
    [
        (0o700, 0o755, 0, False),
        (0o700, 0o1777, 12345, False),
        (0o702, 0o755, 0, True),
        (0o720, 0o755, 0, True),
        (0o1777, 0o755, 0, True),
        (0o700, 0o777, 0, True),
    ],
)
def test_run_sh_refuses_a_cache_that_others_can_change(
    bare_node: Node, tmp_path: Path, mode: int, above: int, group: int, *, is_refused: bool
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ls").symlink_to(str(shutil.which("ls")))
    cache = tmp_path / "above" / "cache"
    cache.mkdir(parents=True)
    if os.getuid() == 0:
        os.chown(cache.parent, -1, group)
    cache.chmod(mode)
    cache.parent.chmod(above)
    variables = {"OFFLINE_BUNDLE_CACHE": str(cache), "PATH": str(tools)}
    done = shell(bare_node, str(bare_node.script()), **variables)
    assert ("can be written or replaced by others" in done.stderr) is is_refused, done.stderr
    assert done.returncode == is_refused, done.stderr


def test_an_unmodified_uv_takes_its_python_from_the_bundle(bare_node: Node, tmp_path: Path) -> None:
    assert UV
    variables = {
        "HOME": str(tmp_path),
        "PATH": "",
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(bare_node.bundle / "python-downloads.json"),
        "UV_PYTHON_INSTALL_MIRROR": (bare_node.bundle / "python").as_uri(),
        "UV_PYTHON_INSTALL_BIN": "0",
        "UV_OFFLINE": "1",
    }
    run = [
        UV,
        "run",
        "--no-index",
        "--find-links",
        str(bare_node.bundle / "wheels"),
        str(bare_node.script()),
    ]
    for command in ([UV, "python", "install", VERSION], run):
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    assert "/uv/python/cpython-" in str(said(done)[2])
