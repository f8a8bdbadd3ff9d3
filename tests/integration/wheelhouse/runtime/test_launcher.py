"""The launcher with real bundles, interpreters, uv and processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse.runtime.disk.locks import FileLock
from offline_bundle.wheelhouse.runtime.disk.node_identity import node_identity
from offline_bundle.wheelhouse.runtime.launcher.prepare.cache_cleanup import cache_limit
from offline_bundle.wheelhouse.runtime.python.interpreters import (
    describe_interpreter,
    find_interpreter,
)
from offline_bundle.wheelhouse.runtime.python.platforms import Node as Machine
from tests.support.bundles import (
    THIS_PYTHON,
    BundleScript,
    make_bundle,
    read_manifest,
    this_platform,
    write_manifest,
)
from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
from tests.support.launcher_cases import (
    SHOW,
    UV,
    Node,
    change,
    needs_posix,
    needs_root,
    node,
    only,
    python_of,
)
from tests.support.programs import require

__all__ = ["node"]


@pytest.fixture
def ready(node: Node) -> Node:
    """A node with a bundle of one script that shows what it sees."""
    make_bundle(node.bundle, {"eval": BundleScript(body=SHOW)})
    return node


def wrapper_uv(folder: Path, before: str = "") -> tuple[Path, Path]:
    """Write a uv that logs what it is asked to do."""
    log = folder / "uv.log"
    wrapper = folder / "logging-uv"
    wrapper.write_text(f'#!/bin/sh\necho "$1 $2" >> "{log}"\n{before}\nexec "{UV}" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper, log


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_script_runs_in_its_environment_where_it_was_started(ready: Node) -> None:
    home = ready.folder / "working folder"
    home.mkdir()
    cold = ready.run(
        ready.script(), "--bundle", "x", "-v", "--", cwd=home, variables={"PYTHONPATH": "/nowhere"}
    )
    assert cold.returncode == 0, cold.stderr
    version, argv, folder, prefix, path = json.loads(cold.stdout)
    assert version == "1.0"
    assert argv == [str(ready.script()), "--bundle", "x", "-v", "--"]
    assert folder == str(home)
    assert prefix.startswith(str(ready.cache / "environments"))
    assert "/nowhere" not in path
    assert "Preparing the environment of eval.py (1 package, Python " in cold.stderr
    assert cold.stderr.count("\n") == 1
    warm = ready.run(ready.script(), "--bundle", "x", "-v", "--", cwd=home)
    assert (warm.returncode, warm.stdout, warm.stderr) == (0, cold.stdout, "")


def test_a_warm_start_makes_no_files(ready: Node) -> None:
    ready.run(ready.script())
    assert list(ready.environments()[0].parent.rglob("alpha*.pyc")), "compiled by the first job"

    def entries() -> list[tuple[str, int]]:
        return sorted((str(path), path.lstat().st_ino) for path in ready.folder.rglob("*"))

    before = entries()
    used = ready.environments()[0].stat().st_mtime
    os.utime(ready.environments()[0], (used - 100, used - 100))
    assert ready.run(ready.script()).returncode == 0
    assert entries() == before
    assert ready.environments()[0].stat().st_mtime > used - 50, "the time of last use is kept"


def test_prepare_prints_the_environment(ready: Node) -> None:
    done = ready.run("--prepare", "-q", ready.script())
    assert done.stderr == ""
    environment = Path(done.stdout.removesuffix("\n"))
    assert (environment / "pyvenv.cfg").is_file()
    assert not list(environment.rglob("alpha*.pyc")), "the bundle has no bytecode"
    again = ready.run("-v", "--prepare", "--", ready.script())
    assert again.stdout == done.stdout
    assert again.stderr == f"Chosen at an earlier start: {done.stdout}"


def test_a_first_start_reads_the_modules_from_one_file(ready: Node) -> None:
    for path in (ready.bundle / "runtime").rglob("*.py"):
        if path.name not in {"__init__.py", "modules.py", "interpreter_info.py"}:
            path.write_text("raise SystemExit('read')\n")
    done = ready.run(ready.script())
    assert done.returncode == 0, done.stderr
    assert not list(ready.bundle.rglob("__pycache__"))


def test_the_launcher_serves_another_bundle(ready: Node) -> None:
    launcher = ready.write("elsewhere/run.py", (ready.bundle / "run.py").read_text())
    alone = subprocess.run(
        [sys.executable, str(launcher), "eval.py"], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 1
    assert alone.stderr.startswith(f"error: {launcher.with_name('runtime')} is incomplete: ")
    assert "hint: copy the folder runtime/ of the bundle beside run.py" in alone.stderr
    shutil.copytree(ready.bundle / "runtime", launcher.with_name("runtime"))
    command = [sys.executable, str(launcher), f"--bundle={ready.bundle}", str(ready.script())]
    done = subprocess.run(command, env=ready.environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_posix
def test_streams_exit_code_and_signals_are_the_script_s_own(node: Node) -> None:
    body = (
        "import os, sys, time\nsys.stdout.write(sys.stdin.read().upper())\n"
        "sys.stderr.write('aside')\nif len(sys.argv) > 1:\n"
        "    open(sys.argv[1], 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
        "sys.exit(37)\n"
    )
    make_bundle(node.bundle, {"eval": BundleScript(body=body)})
    node.run("--prepare", node.script())
    done = node.run(node.script(), input="text")
    assert (done.returncode, done.stdout, done.stderr) == (37, "TEXT", "aside")
    told = node.folder / "pid"
    with subprocess.Popen(
        node.command(node.script(), told),
        env=node.environ(),
        stdin=subprocess.DEVNULL,
        stdout=-3,
        stderr=-3,
    ) as job:
        wait_for(lambda: told.exists() and told.read_text())
        assert told.read_text() == str(job.pid)
        job.send_signal(signal.SIGTERM)
        assert job.wait(10) == -signal.SIGTERM


def test_a_changed_body_runs_and_spelling_does_not_matter(ready: Node) -> None:
    block = '# /// script\n# dependencies = [ "Alpha" ,]\n# ///\n'
    script = ready.write("other.py", f"{block}import alpha\nprint('changed', alpha.VERSION)\n")
    done = ready.run(script)
    assert (done.returncode, done.stdout) == (0, "changed 1.0\n"), done.stderr
    script.write_text(ready.script().read_text() + "print('more')\n")
    assert ready.run(script).stdout.endswith("more\n")
    assert len(ready.environments()) == 1


def test_a_removed_dependency_runs_with_a_notice(node: Node) -> None:
    make_bundle(
        node.bundle,
        {"eval": BundleScript(dependencies=["alpha", "beta"], packages=["alpha", "beta"])},
    )
    script = node.write("eval.py", BundleScript(dependencies=["alpha"], body="import alpha\n").text)
    done = node.run(script)
    assert done.returncode == 0
    assert "eval.py does not list beta" in done.stderr


def test_a_script_of_the_same_name_is_preferred(node: Node) -> None:
    body = (
        "import importlib.metadata as metadata\n"
        "print(sorted(found.name for found in metadata.distributions()))\n"
    )
    same = BundleScript(body=body)
    more = BundleScript(body=body, packages=["alpha", "beta"])
    make_bundle(node.bundle, {"a": same, "eval": more, "z": same})
    assert node.run(node.script("eval")).stdout == "['alpha', 'beta']\n"
    assert node.run(node.script("z")).stdout == "['alpha']\n"
    assert len(node.environments()) == 2


def test_added_dependencies_are_named(ready: Node) -> None:
    script = ready.write(
        "eval.py", BundleScript(dependencies=["alpha", "pandas>=2", "alpha>=3"]).text
    )
    said = ready.failure(7, script)
    assert "eval.py needs pandas>=2, alpha>=3, which the bundle's eval.py did not need" in said
    assert "build-offline-bundle eval.py -o DIR" in said


def test_changed_settings_are_refused(ready: Node) -> None:
    script = ready.write(
        "eval.py", BundleScript(tool_uv='exclude-newer = "2026-01-01T00:00:00Z"').text
    )
    assert "[tool.uv] settings of eval.py" in ready.failure(7, script)


def test_settings_are_compared_by_content(node: Node) -> None:
    table = {"resolution": "lowest", "index": [{"url": "file:///x"}]}
    bundled = BundleScript(
        tool_uv='resolution = "lowest"\nindex = [{url = "file:///x"}]', settings=table
    )
    make_bundle(node.bundle, {"eval": bundled})
    other = BundleScript(
        tool_uv='index = [{ url="file:///x" }]\nresolution = "lowest"', body="import alpha\n"
    )
    assert node.run(node.write("eval.py", other.text)).returncode == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"print()\n", "has no inline metadata"),
        (b"# /// script\n# a = 1\n", "line 1: the `# /// script` block is not closed"),
        (b"# /// script\n# dependencies = [\n# ///\n", "the metadata block is not TOML"),
        (b"# /// script\n# dependencies = [1]\n# ///\n", "`dependencies` is not a list of texts"),
        (b"# /// script\n# requires-python = 3\n# ///\n", "`requires-python` is not a text"),
        (
            b"# /// script\n# dependencies = ['alpha']\n# requires-python = 'new'\n# ///\n",
            "not a version specifier",
        ),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_bad_scripts_are_refused(ready: Node, content: bytes, message: str) -> None:
    script = ready.folder / "bad.py"
    script.write_bytes(content)
    assert message in ready.failure(2, script)


def test_bad_usage_is_refused(ready: Node) -> None:
    assert "nothing.py cannot be read: No such file" in ready.failure(2, "nothing.py")
    assert f"the bundle has {ready.script()}" in ready.failure(2, "eval.py")
    assert "cannot be read: Is a directory" in ready.failure(2, ready.folder)
    assert "arguments are required: SCRIPT" in ready.failure(2)
    assert "arguments are required: SCRIPT" in ready.failure(2, "--")
    assert "unrecognized arguments: --what" in ready.failure(2, "--what", ready.script())
    assert "argument --bundle: expected one argument" in ready.failure(2, "--bundle")
    assert "argument --python: the value is empty" in ready.failure(2, "--python=", ready.script())
    assert "not a bundle: it has no bundle.json" in ready.failure(
        2, "--bundle", ready.folder, ready.script()
    )
    assert "no interpreter /no/python" in ready.failure(2, "--python", "/no/python", ready.script())
    assert "no interpreter no-python" in ready.failure(2, "--python", "no-python", ready.script())
    assert "no uv nothing" in ready.failure(
        2, ready.script(), variables={"OFFLINE_BUNDLE_UV": "nothing"}
    )
    help_text = ready.run("--help")
    assert (help_text.returncode, help_text.stderr) == (0, "")
    assert "usage: python run.py" in help_text.stdout


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda manifest: manifest.update(format=2), "has format 2; this version reads format 1"),
        (lambda manifest: manifest.pop("format"), "has no known format: null"),
        (lambda manifest: manifest.pop("targets"), "targets: must be an object, not null"),
        (
            lambda manifest: manifest["scripts"].update(eval=[]),
            "scripts.eval: must be an object, not a list",
        ),
        (
            lambda manifest: manifest["scripts"]["eval"].update(block=1),
            "scripts.eval.block: must be a sha256",
        ),
        (lambda manifest: manifest["files"].update({"../x": {}}), "files.'../x': unsafe path"),
        (lambda manifest: manifest["files"].clear(), "'scripts/eval.py' is not in files"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(
    ready: Node, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(ready.bundle, edit)
    assert message in ready.failure(5, ready.script())


def test_a_broken_manifest_is_refused(ready: Node) -> None:
    (ready.bundle / "bundle.json").write_text("{")
    assert "bundle.json is not valid JSON" in ready.failure(5, ready.script())
    (ready.bundle / "bundle.json").write_text("[]")
    assert "must be a JSON object, not a list" in ready.failure(5, ready.script())


def test_bundle_without_scripts_is_named(ready: Node) -> None:
    change(ready.bundle, lambda manifest: manifest["scripts"].clear())
    assert "has no scripts" in ready.failure(7, ready.write("eval.py", BundleScript().text))


def test_no_fitting_target_lists_what_the_bundle_has(node: Node) -> None:
    make_bundle(
        node.bundle,
        python=["2.6"],
        platforms=[this_platform(), "riscv64-manylinux_2_39", "x86_64-pc-windows-msvc"],
    )
    said = node.failure(7, node.script())
    assert "this node: " + os.uname().sysname in said
    assert f"cp26-{this_platform()}: no CPython 2.6" in said
    assert "cp26-riscv64-manylinux_2_39: made for Linux on riscv64" in said
    assert "build-offline-bundle eval.py" in said


@pytest.mark.skipif(not node_identity()[2].startswith("glibc"), reason="asks for a newer glibc")
def test_libc_floor_is_respected(node: Node) -> None:
    machine = os.uname().machine
    make_bundle(
        node.bundle,
        platforms=[f"{machine}-manylinux_2_99", f"{machine}-manylinux_2_5"],
        libc="2.99",
    )
    said = node.failure(7, node.script())
    assert "needs glibc 2.99 or newer" in said
    change(node.bundle, lambda manifest: manifest["scripts"]["eval"]["locks"].popitem())
    shutil.rmtree(node.bundle)
    make_bundle(
        node.bundle,
        platforms=[f"{machine}-manylinux_2_99", f"{machine}-manylinux_2_5"],
        libc="2.17",
    )
    done = node.run("-v", node.script())
    assert done.returncode == 0, done.stderr
    assert "Chosen: locks/eval/pylock.cp" in done.stderr
    assert "manylinux_2_99" in done.stderr.splitlines()[0], "the highest platform whose wheels fit"


def test_requires_python_decides_between_interpreters(node: Node) -> None:
    make_bundle(
        node.bundle,
        {"eval": BundleScript(requires_python=f"=={THIS_PYTHON}", body="import alpha\n")},
    )
    assert node.run(node.script()).returncode == 0
    script = BundleScript(requires_python=f"=={THIS_PYTHON}.99")
    said = node.failure(7, node.write("eval.py", script.text))
    assert f"no CPython {THIS_PYTHON} that satisfies requires-python '=={THIS_PYTHON}.99'" in said
    assert "--python-version X.Y" in said


def test_a_bundle_for_another_python_names_the_one_to_build_for(node: Node) -> None:
    make_bundle(node.bundle, python="3.99")
    said = node.failure(7, node.script())
    assert re.search(r"--python-version 3\.\d+ --python-platform ", said), said


def test_an_explicit_interpreter_is_the_only_one(ready: Node) -> None:
    false = ready.write("python", "#!/bin/sh\nexit 3\n")
    false.chmod(0o755)
    assert f"only {false} was asked for" in ready.failure(7, "--python", false, ready.script())
    assert (
        ready.run(ready.script(), variables={"OFFLINE_BUNDLE_PYTHON": str(false)}).returncode == 7
    )
    assert ready.run("--python", sys.executable, ready.script()).returncode == 0


def test_the_base_interpreter_is_used_not_a_virtual_environment(ready: Node) -> None:
    """An interpreter that fails, as idle pyenv shims do, is passed over."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", ready.folder / "venv"], check=True
    )
    shims = ready.folder / "shims"
    for name in (f"python{THIS_PYTHON}", "python3"):
        ready.write(f"shims/{name}", "#!/bin/sh\nexit 127\n").chmod(0o755)
    done = ready.run(
        ready.script(),
        python=str(ready.folder / "venv" / "bin" / "python"),
        variables={"PATH": str(shims)},
    )
    assert done.returncode == 0, done.stderr
    assert str(ready.folder) not in json.loads(ready.environments()[0].read_text())["interpreter"]


@pytest.mark.parametrize("minor", ["3.9", "3.10", "3.13"])
def test_other_pythons_run_the_launcher(ready: Node, minor: str) -> None:
    python = python_of(minor)
    path = {"PATH": os.pathsep.join([str(Path(sys.executable).resolve().parent), os.defpath])}
    done = ready.run(ready.script(), "x", python=python, variables=path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0] == "1.0"
    changed = ready.write("eval.py", BundleScript(dependencies=["Alpha"], body=SHOW).text)
    done = ready.run(changed, python=python, variables=path)
    assert done.returncode == 0, done.stderr


def test_a_python_without_toml_starts_known_blocks_only(ready: Node) -> None:
    hidden = "sys.modules.update(dict.fromkeys(['tomllib', 'tomli', 'pip']))"
    changed = ready.write("eval.py", BundleScript(dependencies=["Alpha"], body=SHOW).text)
    done = ready.run_changed(hidden, changed)
    assert done.returncode == 7
    assert "start run.py with Python 3.11 or newer" in done.stderr
    done = ready.run_changed(hidden, ready.script())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("minor", ["3.6", "3.8"])
def test_old_python_starts_a_newer_one_or_fails(ready: Node, minor: str) -> None:
    python = python_of(minor)
    said = ready.run(ready.script(), python=python, variables={"PATH": str(ready.folder)})
    assert said.returncode == 1
    assert "needs Python 3.9 or newer" in said.stderr
    newer = {"PATH": str(Path(sys.executable).resolve().parent)}
    done = ready.run(ready.script(), "x", python=python, variables=newer)
    assert done.returncode == 0, done.stderr


def test_find_interpreter_finds_this_one() -> None:
    found = find_interpreter((sys.version_info[0], sys.version_info[1]))
    assert found
    assert not subprocess.run(
        [found, "-c", "import sys; sys.exit(sys.prefix != sys.base_prefix)"], check=False
    ).returncode
    assert find_interpreter((2, 0)) is None


def test_a_wheel_of_other_bytes_is_refused(ready: Node, tmp_path: Path) -> None:
    wheel = only(ready.bundle, "*.whl")
    size = wheel.stat().st_size
    files = {"alpha.py": "VERSION = '6.6'\n"}
    evil = make_wheel(tmp_path / "evil", "alpha", requires_python=">=3.8,<3.9", files=files)
    assert evil.stat().st_size == size, "a valid wheel of the same size"
    shutil.copyfile(evil, wheel)
    said = ready.failure(5, "-q", ready.script())
    assert "Hash mismatch" in said
    assert not ready.environments()
    wheel.write_bytes(b"x")
    assert f"has 1 bytes instead of {size}" in ready.failure(5, ready.script())
    wheel.unlink()
    assert f"{wheel.relative_to(ready.bundle)} is missing" in ready.failure(5, ready.script())


@pytest.mark.parametrize("content", [None, b"lock-version = '1.0'\n"])
def test_a_lock_of_other_bytes_is_refused(ready: Node, content: bytes | None) -> None:
    lock = only(ready.bundle, "pylock*")
    if content:
        lock.write_bytes(content)
    else:
        lock.unlink()
    said = ready.failure(5, "-q", ready.script())
    assert str(lock) in said
    assert "does not match its digest" in said or "is missing" in said
    assert not list((ready.cache / "environments").glob("*/"))


def test_the_bundle_s_uv_runs_only_when_its_digest_matches(node: Node) -> None:
    wrapper, log = wrapper_uv(node.folder)
    make_bundle(node.bundle, uv=wrapper)
    own = {"OFFLINE_BUNDLE_UV": None}
    uv = only(node.bundle, "uv/*/*/uv")
    good = uv.read_bytes()
    uv.write_bytes(good.replace(b"exec", b"EXEC"))
    assert "uv does not match its digest" in node.failure(5, "-q", node.script(), variables=own)
    assert not log.exists(), "it was not run"
    assert not list((node.cache / "uv-bin").glob("*/*"))
    uv.write_bytes(good)
    assert node.run(node.script(), variables=own).returncode == 0
    assert log.read_text().split("\n") == ["pip sync", ""]
    assert only(node.cache / "uv-bin", "uv").stat().st_mode & 0o777 == 0o700


def test_update_in_progress_is_read_again(ready: Node) -> None:
    """The lock on disk is of the next manifest, which is renamed between the two readings."""
    lock = only(ready.bundle, "pylock*")
    before = (ready.bundle / "bundle.json").read_bytes()
    lock.write_text(lock.read_text() + "\n")
    write_manifest(ready.bundle, read_manifest(ready.bundle))
    after = (ready.bundle / "bundle.json").read_bytes()
    (ready.bundle / "bundle.json").write_bytes(before)
    renaming = (
        "bundle = trusted_bundle.TrustedBundle\n"
        "real = bundle.read\n"
        "def rename_first(*arguments):\n"
        "    bundle.read = real\n"
        f"    open({str(ready.bundle / 'bundle.json')!r}, 'wb').write({after!r})\n"
        "    return real(*arguments)\n"
        "bundle.read = rename_first"
    )
    done = ready.run_changed(renaming, ready.script())
    assert done.returncode == 0, done.stderr


def test_output_of_uv_is_shown(ready: Node) -> None:
    broken = ready.write("broken-uv", "#!/bin/sh\necho something odd; exit 9\n")
    broken.chmod(0o755)
    said = ready.failure(1, "-q", ready.script(), variables={"OFFLINE_BUNDLE_UV": str(broken)})
    assert "broken-uv could not prepare the environment (exit code 9):\nsomething odd" in said
    broken.write_text("#!/bin/sh\necho No space left on device >&2; exit 2\n")
    said = ready.failure(1, "-q", ready.script(), variables={"OFFLINE_BUNDLE_UV": str(broken)})
    assert f"no space left in the cache {ready.cache}" in said
    assert "OFFLINE_BUNDLE_CACHE" in said
    assert not list((ready.cache / "environments").glob("*/"))


def test_without_uv_pip_installs(ready: Node) -> None:
    # the machine's file counts for `pip --isolated` too
    settings = ready.folder / "xdg" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("[install]\nno-binary = :all:\nrequire-hashes = no\ntarget = /nowhere\n")
    variables = {
        "OFFLINE_BUNDLE_UV": None,
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_TARGET": "/nowhere",
        "XDG_CONFIG_DIRS": str(settings.parents[1]),
    }
    done = ready.run("-v", ready.script(), variables=variables)
    assert done.returncode == 0, done.stderr
    assert "installing with pip" in done.stderr
    assert json.loads(done.stdout)[0] == "1.0"


@pytest.mark.slow
def test_pip_gets_only_wheels_that_match(ready: Node) -> None:
    """Of the right size, and readable as an archive."""
    wheel = only(ready.bundle, "*.whl")
    content = bytearray(wheel.read_bytes())
    content[content.index(b"PK") + 10] ^= 1  # the first member's time
    wheel.write_bytes(content)
    assert "does not match its digest" in ready.failure(
        5, "-q", ready.script(), variables={"OFFLINE_BUNDLE_UV": None}
    )


def test_a_cache_that_is_mounted_noexec_is_noted(ready: Node) -> None:
    require("mount", "umount")
    ready.cache.mkdir(mode=0o700, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "noexec,mode=0700", "tmpfs", str(ready.cache)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        done = ready.run(ready.script())
    finally:
        subprocess.run(["umount", "--lazy", ready.cache], check=True)
    assert done.returncode == 0, done.stderr
    assert "compiled modules cannot be loaded from it" in done.stderr


def test_without_uv_and_ensurepip_there_is_advice(ready: Node) -> None:
    python = ready.write(
        "bin/python",
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec "{sys.executable}" "$@"\n',
    )
    python.chmod(0o755)
    # An interpreter names its real path itself; here it is made to name the wrapper.
    naming = (
        "from runtime.python import interpreters\n"
        "real = interpreters.describe_interpreter\n"
        "def ask(*arguments):\n"
        "    found = real(*arguments)\n"
        f"    if not isinstance(found, str): found.path = {str(python)!r}\n"
        "    return found\n"
        "interpreters.describe_interpreter = ask"
    )
    done = ready.run_changed(naming, "-q", ready.script(), variables={"OFFLINE_BUNDLE_UV": None})
    assert done.returncode == 7
    assert "has no ensurepip" in done.stderr
    assert "OFFLINE_BUNDLE_UV" in done.stderr


@needs_posix
def test_own_interpreter_is_described_as_if_it_was_started(tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(Path(sys.executable).resolve())
    own, started = (describe_interpreter(str(path), Machine()) for path in (sys.executable, link))
    assert not isinstance(own, str)
    assert vars(own) == vars(started)


def test_many_jobs_make_one_environment(ready: Node) -> None:
    wrapper, log = wrapper_uv(ready.folder, before="sleep 0.3")
    environ = ready.environ({"OFFLINE_BUNDLE_UV": str(wrapper)})
    jobs = [
        subprocess.Popen(ready.command(ready.script()), env=environ, stdout=-1, stderr=-1)
        for _ in range(20)
    ]
    said = [job.communicate(timeout=120) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 20, said
    assert log.read_text().split("\n") == ["pip sync", ""]
    assert sum(b"Preparing" in errors for _, errors in said) == 1
    assert len({output for output, _ in said}) == 1


def test_jobs_start_while_others_run(node: Node) -> None:
    """The shared lock that a running job holds does not keep the next one waiting."""
    body = "import sys, time\nprint(1, flush=True)\nsys.stdin.read()\n"
    make_bundle(node.bundle, {"eval": BundleScript(body=body)})
    with subprocess.Popen(
        node.command("-q", node.script()), env=node.environ(), stdin=-1, stdout=-1
    ) as first:
        assert first.stdout
        assert first.stdout.read(1) == b"1"
        assert node.run(node.script(), input="").stdout == "1\n"
        (node.cache / "launches").rename(node.cache / "forgotten")
        assert node.run(node.script(), input="").stdout == "1\n"
        home = node.environments()[0].parent
        lock = FileLock(f"{home}.lock")
        assert not lock.acquire(block=False), "held by the job across exec"
        first.communicate()
    assert lock.acquire(block=False)
    lock.release()


@needs_posix
def test_a_killed_preparation_is_repeated(ready: Node) -> None:
    """The orphaned uv still holds the lock: the next start waits for it, and then begins afresh."""
    flag = ready.folder / "slow"
    flag.touch()
    wrapper, log = wrapper_uv(
        ready.folder, before=f'[ "$1" = pip ] && [ -e "{flag}" ] && rm "{flag}" && sleep 1'
    )
    variables = {"OFFLINE_BUNDLE_UV": str(wrapper)}
    with subprocess.Popen(
        ready.command(ready.script()), env=ready.environ(variables), stdout=-3, stderr=-3
    ) as job:
        wait_for(lambda: not flag.exists())
        job.kill()
    assert not ready.environments()
    assert list((ready.cache / "environments").glob("*/env"))
    done = ready.run("-v", ready.script(), variables=variables)
    assert done.returncode == 0, done.stderr
    assert "Waiting for another job" in done.stderr
    assert log.read_text().count("pip sync") == 2


@needs_posix
def test_an_interrupted_preparation_leaves_nothing(ready: Node) -> None:
    started = ready.folder / "started"
    wrapper, _ = wrapper_uv(ready.folder, before=f'touch "{started}"; [ "$1" = pip ] && sleep 60')
    variables = {"OFFLINE_BUNDLE_UV": str(wrapper)}
    options: dict[str, Any] = {
        "env": ready.environ(variables),
        "stderr": -1,
        "start_new_session": True,
    }
    with subprocess.Popen(ready.command("-q", ready.script()), **options) as job:
        wait_for(started.exists)
        os.killpg(job.pid, signal.SIGINT)
        _, said = job.communicate(timeout=20)
    assert (job.returncode, said) == (130, b"interrupted\n")
    assert not list((ready.cache / "environments").glob("*/"))


def test_an_environment_whose_interpreter_is_gone_is_made_again(ready: Node) -> None:
    ready.run(ready.script())
    link = only(ready.cache / "environments", "env/bin/python")
    link.unlink()
    link.symlink_to(ready.folder / "gone")
    done = ready.run(ready.script())
    assert done.returncode == 0, done.stderr
    assert "Preparing" in done.stderr


@pytest.fixture
def three(node: Node) -> Node:
    scripts = {
        name: BundleScript(dependencies=[name], packages=[name])
        for name in ("alpha", "beta", "gamma")
    }
    make_bundle(node.bundle, scripts)
    for age, name in ((10, "alpha"), (5, "beta")):
        home = Path(node.run("--prepare", node.script(name)).stdout.strip()).parent
        moment = time.time() - age * 24 * 3600
        os.utime(home / "complete.json", (moment, moment))
    return node


def test_environments_not_used_for_long_go(three: Node) -> None:
    (oldest,) = [
        path for path in three.environments() if path.stat().st_mtime < time.time() - 9 * 24 * 3600
    ]
    os.utime(oldest, (0, 0))
    assert three.run(three.script("gamma")).returncode == 0
    assert len(three.environments()) == 2
    assert not oldest.parent.exists()
    assert not (three.cache / "uv").exists()
    assert three.run(three.script("alpha")).returncode == 0, "and comes back when asked for"


def test_beyond_the_size_limit_the_longest_unused_go_but_never_one_in_use(three: Node) -> None:
    oldest, *_ = sorted(three.environments(), key=lambda path: path.stat().st_mtime)
    with FileLock(f"{oldest.parent}.lock", shared=True):
        done = three.run("-v", three.script("gamma"), variables={"OFFLINE_BUNDLE_CACHE_MAX": "1K"})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Removed ") == 1
    assert len(three.environments()) == 2
    assert oldest.exists()


def test_a_size_limit_is_read(ready: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, size in (
        ("5", 5),
        ("2k", 2048),
        ("3M", 3 << 20),
        ("1GiB", 1 << 30),
        ("1TB", 1 << 40),
    ):
        monkeypatch.setenv("OFFLINE_BUNDLE_CACHE_MAX", text)
        assert cache_limit() == size
    said = ready.failure(2, "-q", ready.script(), variables={"OFFLINE_BUNDLE_CACHE_MAX": "much"})
    assert "OFFLINE_BUNDLE_CACHE_MAX: invalid size 'much'" in said


def cache_of(node: Node, **variables: str | None) -> Path:
    variables = {"OFFLINE_BUNDLE_CACHE": None, **variables}
    done = node.run("-q", "--prepare", node.script(), variables=variables)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()).parents[2]


@needs_posix
def test_where_the_cache_is(ready: Node) -> None:
    home = Path(ready.variables["HOME"])
    home.mkdir()
    caches, temporary = ready.folder / "caches", ready.folder / "tmp"
    temporary.mkdir()
    assert cache_of(ready) == home / ".cache" / "offline-bundle"
    assert cache_of(ready, XDG_CACHE_HOME=str(caches)) == caches / "offline-bundle"
    assert stat.S_IMODE((caches / "offline-bundle").stat().st_mode) == 0o700
    expected = temporary / f"offline-bundle-{os.getuid()}"
    assert cache_of(ready, HOME=None, TMPDIR=str(temporary)) == expected
    assert cache_of(ready, HOME="/dev/null", TMPDIR=str(temporary)) == expected
    assert stat.S_IMODE(expected.stat().st_mode) == 0o700


@needs_posix
def test_a_cache_that_others_may_write_is_refused(ready: Node) -> None:
    ready.cache.mkdir(0o700)
    ready.cache.chmod(0o770)
    said = ready.failure(1, ready.script())
    assert (
        f"{ready.cache} can be written by others: not used (owner {os.getuid()}, mode 0770)" in said
    )
    ready.cache.chmod(0o755)
    assert ready.run(ready.script()).returncode == 0
    ready.cache.chmod(0o702)
    ready.failure(1, ready.script())


@needs_posix
def test_a_cache_that_others_may_replace_is_refused(ready: Node) -> None:
    shared = ready.folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    variables = {"OFFLINE_BUNDLE_CACHE": str(shared / "cache")}
    assert "another user may replace it" in ready.failure(1, ready.script(), variables=variables)
    (shared / "cache" / "below").mkdir()
    variables["OFFLINE_BUNDLE_CACHE"] = str(shared / "cache" / "below")
    assert "another user may replace it" in ready.failure(1, ready.script(), variables=variables)
    variables["OFFLINE_BUNDLE_CACHE"] = str(shared / "cache")
    shared.chmod(0o1777)
    assert ready.run(ready.script(), variables=variables).returncode == 0
    (shared / "cache").rename(ready.folder / "own")
    (shared / "cache").symlink_to(ready.folder / "own")
    assert "a symbolic link" in ready.failure(1, ready.script(), variables=variables)
    (ready.folder / "link").symlink_to(ready.folder / "own")
    assert (
        ready.run(
            ready.script(), variables={"OFFLINE_BUNDLE_CACHE": str(ready.folder / "link")}
        ).returncode
        == 0
    )
    ready.write("file", "")
    said = ready.failure(
        1, ready.script(), variables={"OFFLINE_BUNDLE_CACHE": str(ready.folder / "file")}
    )
    assert "is not a folder" in said


@needs_root
def test_cache_of_another_user_is_refused(ready: Node) -> None:
    ready.cache.mkdir(0o755)
    os.chown(ready.cache, 12345, 12345)
    said = ready.failure(1, ready.script())
    assert "belongs to user 12345, not to you (user 0)" in said
    temporary = ready.folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    (temporary / "offline-bundle-0").mkdir()
    os.chown(temporary / "offline-bundle-0", 12345, 12345)
    variables = {"OFFLINE_BUNDLE_CACHE": None, "HOME": None, "TMPDIR": str(temporary)}
    assert "belongs to user 12345" in ready.failure(1, ready.script(), variables=variables)


@pytest.fixture
def public() -> Iterator[Node]:
    """A node that every user can reach; pytest's folders are private."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Node(Path(folder))


@needs_root
def test_another_user_needs_no_permission_to_write(public: Node) -> None:
    nobody = 65534
    python = next(
        (path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()),
        None,
    )
    if not python:
        pytest.skip("this machine has no python3 outside of home folders")
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    uv = public.folder / "uv"
    shutil.copyfile(UV or "", uv)
    make_bundle(
        public.bundle,
        {"eval": BundleScript(body="import alpha\nprint(alpha.VERSION)\n")},
        python=version.stdout.strip(),
        uv=uv,
    )
    temporary = public.folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    for path in public.bundle.rglob("*"):
        path.chmod(0o555 if path.is_dir() or path.name == "uv" else 0o444)
    variables = {
        "OFFLINE_BUNDLE_CACHE": None,
        "OFFLINE_BUNDLE_UV": None,
        "TMPDIR": str(temporary),
        "HOME": "/root",
    }
    options: dict[str, Any] = {"user": nobody, "group": nobody, "extra_groups": [], "cwd": "/"}
    before = sorted(public.bundle.rglob("*"))
    for _ in range(2):
        done = public.run(public.script(), python=python, variables=variables, **options)
        assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr
    assert sorted(public.bundle.rglob("*")) == before
    assert (temporary / f"offline-bundle-{nobody}").stat().st_uid == nobody


def test_nothing_is_written_into_the_bundle(ready: Node) -> None:
    for path in [*ready.bundle.rglob("*"), ready.bundle]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = sorted(ready.bundle.rglob("*"))
    try:
        assert ready.run(ready.script()).returncode == 0
        assert sorted(ready.bundle.rglob("*")) == before
    finally:
        for path in [ready.bundle, *before]:
            path.chmod(path.stat().st_mode | 0o200)


@needs_root
def test_a_full_disk_is_explained(ready: Node) -> None:
    """A file system of 64 KiB, mounted for this test where that is allowed."""
    ready.cache.mkdir(0o700)
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64k,mode=700", "none", ready.cache],
        capture_output=True,
        check=False,
    )
    if not made or made.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        said = ready.failure(1, "-q", ready.script())
        assert f"no space left in the cache {ready.cache}" in said
        assert not list((ready.cache / "environments").glob("*/"))
    finally:
        subprocess.run(["umount", "-l", ready.cache], check=True)


def test_a_warm_start_imports_next_to_nothing(ready: Node) -> None:
    """Measured by what is loaded rather than by the clock, which belongs to the whole machine."""
    ready.run(ready.script())
    code = (
        "import os, runpy, sys\nbefore = set(sys.modules)\n"
        "def show(*_): print(sorted(set(sys.modules) - before)); os._exit(0)\n"
        "os.execve = show\nsys.argv = sys.argv[1:]\n"
        "module = {'__name__': '__main__', '__file__': sys.argv[0]}\n"
        "exec(compile(open(sys.argv[0]).read(), sys.argv[0], 'exec'), module)\n"
    )
    command = [
        sys.executable,
        "-S",
        "-u",
        "-c",
        code,
        str(ready.bundle / "run.py"),
        str(ready.script()),
    ]
    done = subprocess.run(command, env=ready.environ(), capture_output=True, text=True, check=True)
    assert set(re.findall(r"'(\w+)'", done.stdout)) <= {"binascii", "fcntl", "stat", "_stat"}
