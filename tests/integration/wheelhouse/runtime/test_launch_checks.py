"""What the launcher checks before it uses an environment, an interpreter, a script or a stream."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from offline_bundle.builder.compose import UV_TOML
from tests.support.bundles import THIS_PYTHON, BundleScript, make_bundle
from tests.support.launcher_cases import SHOW, UV, Node, needs_posix, python_of
from tests.support.programs import require

pytestmark = needs_posix

ROOT = Path(__file__).parents[4]
IGNORE_CHILDREN = (
    "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
COLD_THEN_WARM = (["-q"], [])
"""Options of two starts: one with an option is never warm."""
SHOW_SIGNAL = "import alpha, signal\nprint(signal.getsignal(signal.SIGCHLD).name)\n"
SHOW_STREAMS = """import os, sys
streams = []
for number in (0, 1, 2):
    try:
        streams.append(os.readlink(f"/proc/self/fd/{number}"))
    except OSError:
        streams.append("closed")
open(sys.argv[1], "w").write(repr(streams))
"""
SITE_PACKAGES = 'site=$(echo "$PWD"/env/lib/python*/site-packages)\n'
BROKEN_TOOLS = {
    "no packages": "exit 0",
    "one package missing": f'"{UV}" "$@"; {SITE_PACKAGES}rm -rf "$site"/beta-1.0.dist-info; exit 0',
    "cut short": f'"{UV}" "$@"; {SITE_PACKAGES}: > "$site"/beta-1.0.dist-info/RECORD; exit 0',
    "module missing": f'"{UV}" "$@"; {SITE_PACKAGES}rm -f "$site"/beta.py; exit 0',
    "module cut short": f'"{UV}" "$@"; {SITE_PACKAGES}: > "$site"/beta.py; exit 0',
    "metadata only": f"""{SITE_PACKAGES}for name in alpha beta; do
        mkdir "$site/$name-1.0.dist-info"; cd "$site/$name-1.0.dist-info"; echo > METADATA
        echo "$name-1.0.dist-info/INSTALLER,," > RECORD; cd "$OLDPWD"
    done""",
    "no interpreter": f'"{UV}" "$@"; rm -f env/bin/python; exit 0',
    "interpreter of elsewhere": f'"{UV}" "$@"; rm -f env/pyvenv.cfg; exit 0',
    "killed": f'"{UV}" "$@"; kill -9 $$',
}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    packages = ["alpha", "beta"]
    make_bundle(
        node.bundle, {"eval": BundleScript(dependencies=packages, packages=packages, body=SHOW)}
    )
    return node


def ignoring_children(node: Node, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Start the launcher by a parent that ignores SIGCHLD."""
    command = [sys.executable, "-c", IGNORE_CHILDREN, *node.command(*arguments)[1:]]
    return subprocess.run(
        command, env=node.environ(), capture_output=True, text=True, check=False, timeout=60
    )


# --- environments ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", BROKEN_TOOLS)
def test_broken_installer_never_completes_environment(node: Node, fault: str) -> None:
    uv = node.write("broken-uv", f"#!/bin/sh\n{BROKEN_TOOLS[fault]}\n")
    uv.chmod(0o755)
    message = node.failure(1, "-q", node.script(), variables={"OFFLINE_BUNDLE_UV": str(uv)})
    assert not node.environments(), message
    healthy = node.run(node.script())
    assert healthy.returncode == 0, healthy.stderr


def test_a_package_may_print_when_python_starts_and_ends(node: Node) -> None:
    code = "import atexit, sys; sys.stdout.write('start'); atexit.register(print, 'end')"
    uv = f'#!/bin/sh\n"{UV}" "$@" || exit\n{SITE_PACKAGES}echo "{code}" > "$site/x.pth"\n'
    program = node.write("printing-uv", uv)
    program.chmod(0o755)
    done = node.run("-q", node.script(), variables={"OFFLINE_BUNDLE_UV": str(program)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("start")
    assert done.stdout.endswith("end\n")


BROKEN_PIP = """
from pathlib import Path
from runtime.launcher.prepare.install import Tool
run = Tool.run
def run_and_lose_a_module(tool, command, *locks):
    run(tool, command, *locks)
    for path in Path(tool.environment).glob("lib/*/site-packages/beta.py"):
        path.unlink()
Tool.run = run_and_lose_a_module
"""


def test_broken_pip_never_completes_environment(node: Node) -> None:
    variables = {"OFFLINE_BUNDLE_UV": None}
    done = node.run_changed(BROKEN_PIP, "-q", node.script(), variables=variables)
    assert done.returncode == 1, done.stderr
    assert "installed files are missing or truncated" in done.stderr
    assert "beta.py" in done.stderr
    assert not node.environments()


def test_ignored_child_signal_still_reports_failed_installer(node: Node) -> None:
    uv = node.write("broken-uv", "#!/bin/sh\necho odd >&2\nexit 9\n")
    uv.chmod(0o755)
    node.variables["OFFLINE_BUNDLE_UV"] = str(uv)
    done = ignoring_children(node, "-q", node.script())
    assert done.returncode == 1
    assert "could not prepare the environment (exit code 9)" in done.stderr
    assert not node.environments()


def test_script_gets_the_child_signal_of_the_parent(node: Node) -> None:
    script = node.write("eval.py", BundleScript(dependencies=["alpha"], body=SHOW_SIGNAL).text)
    for options in COLD_THEN_WARM:
        done = ignoring_children(node, *options, script)
        assert (done.returncode, done.stdout) == (0, "SIG_IGN\n"), done.stderr
    assert node.run("-q", script).stdout == "SIG_DFL\n"


# --- interpreters ------------------------------------------------------------------------------


def shims(node: Node, text: str) -> str:
    for name in (f"python{THIS_PYTHON}", "python3", "python"):
        node.write(f"shims/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)
    return str(node.folder / "shims")


def test_all_interpreters_on_path_are_tried(node: Node) -> None:
    good = str(Path(sys.executable).resolve().parent)
    path = os.pathsep.join([shims(node, "exit 127"), good, os.defpath])
    done = node.run("-q", node.script(), python=python_of("3.9"), variables={"PATH": path})
    assert done.returncode == 0, done.stderr


def test_a_version_may_be_asked_for(node: Node) -> None:
    for _ in range(2):
        done = node.run("-q", "--python", THIS_PYTHON, node.script())
        assert done.returncode == 0, done.stderr


def test_another_version_is_not_used(node: Node) -> None:
    message = node.failure(7, "-q", "--python", "3.98", node.script())
    assert "its interpreters: only Python 3.98 was asked for: none found" in message


def test_a_wrapper_may_print_before_the_interpreter_does(node: Node) -> None:
    shims(node, f'echo "module load python"; exec "{sys.executable}" "$@"')
    done = node.run("-q", "--python", node.folder / "shims" / "python3", node.script())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": "/nowhere/python"}, "starts /nowhere/python, which does not start without it"),
        ({"implementation": "pypy"}, "is pypy, not CPython"),
        ({"release": "candidate"}, "is a pre-release (candidate)"),
        ({"bits": 32}, "is not built for Linux"),
        ({"version": None}, "does not start Python"),
    ],
)
def test_interpreters_passed_over_are_named_with_the_reason(
    node: Node, change: dict[str, object], reason: str
) -> None:
    info = subprocess.run(
        [sys.executable, "-I", node.bundle / "runtime" / "python" / "interpreter_info.py"],
        capture_output=True,
        check=True,
    )
    answer = json.dumps({**json.loads(info.stdout), **change})
    path = {"PATH": shims(node, f"echo {shlex.quote(answer)}")}
    message = node.failure(7, "-q", node.script(), python=python_of("3.9"), variables=path)
    assert f"shims/python{THIS_PYTHON} {reason}" in message
    explicit = node.folder / "shims" / "python3"
    message = node.failure(7, "-q", "--python", explicit, node.script())
    assert f"only {explicit} was asked for, and it {reason}" in message


# --- scripts and streams -----------------------------------------------------------------------


def test_script_that_is_not_a_file_is_refused(node: Node) -> None:
    pipe = node.folder / "eval.py"
    os.mkfifo(pipe)
    for _ in range(2):  # before and after a start of the same name and block is recorded
        message = node.failure(2, pipe)
        assert f"{pipe} is not a regular file\nhint: save the script to one" in message
        assert node.run("-q", node.script()).returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed_for_the_script(node: Node, closed: str) -> None:
    script = node.write("eval.py", BundleScript(dependencies=["alpha"], body=SHOW_STREAMS).text)
    report = node.folder / "streams"
    for options in COLD_THEN_WARM:
        command = shlex.join(node.command(*options, script, report))
        shell = ["/bin/sh", "-c", f"exec {command} {closed}"]
        done = subprocess.run(shell, env=node.environ(), capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert report.read_text().count("closed") == len(closed.split())
        report.unlink()


def test_a_log_on_a_full_disk_does_not_stop_a_job(node: Node) -> None:
    for options in ((), ("-v",)):  # a cold start, which prints, and a warm one
        command = shlex.join(node.command(*options, node.script()))
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {command} 2>/dev/full"], env=node.environ(), check=False
        )
        assert done.returncode == 0


# --- the cache ---------------------------------------------------------------------------------


def test_cache_behind_a_link_of_this_user_starts_warm(node: Node) -> None:
    """As on clusters, where ~/.cache/offline-bundle links to scratch."""
    scratch = node.folder / "scratch"
    scratch.mkdir(0o700)
    node.cache.symlink_to(scratch)
    assert node.run("-q", node.script()).returncode == 0
    shutil.rmtree(node.bundle / "runtime")  # a warm start needs none of it
    done = node.run(node.script())
    assert done.returncode == 0, done.stderr


def test_ignored_child_signal_does_not_hide_failures_of_a_build(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    script = tmp_path / "eval.py"
    script.write_text(BundleScript(dependencies=["nothing-here"]).text)
    arguments = ["build", script, "-o", tmp_path / "bundle", "--no-uv"]
    index = ["--default-index", (tmp_path / "index").as_uri()]
    command = [sys.executable, "-c", IGNORE_CHILDREN, "-m", "offline_bundle", *arguments, *index]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 3, done.stderr
    assert "eval.py cannot be resolved" in done.stderr


CHECK_POLICY = """import sys
from offline_bundle.wheelhouse.runtime.bundle.policy import check_policies
from offline_bundle.wheelhouse.runtime.errors import SignatureError
try:
    check_policies(*(open(path, "rb").read() for path in sys.argv[1:]))
except SignatureError as error:
    sys.exit(error.kind)
"""


@pytest.mark.parametrize("kind", ["not-allowed", "modified", "revoked"])
def test_ignored_child_signal_does_not_make_a_signature_valid(tmp_path: Path, kind: str) -> None:
    """ssh-keygen's exit code would read as 0."""
    keygen = require("ssh-keygen")
    keys = [tmp_path / name for name in ("own", "other")]
    for key in keys:
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    document = tmp_path / "bundle.json"
    document.write_text("{}")
    sign = [
        keygen,
        "-Y",
        "sign",
        "-n",
        "offline-bundle",
        "-f",
        keys[kind == "not-allowed"],
        document,
    ]
    subprocess.run(sign, check=True, capture_output=True)
    if kind == "modified":
        document.write_text('{"changed": 1}')
    signers, policy = tmp_path / "signers", tmp_path / "policy.json"
    signers.write_text(f"me {keys[0].with_suffix('.pub').read_text()}")
    entries = {"allowed-signers": str(signers)}
    if kind == "revoked":
        entries["revoked-keys"] = str(keys[0].with_suffix(".pub"))
    policy.write_text(json.dumps(entries))
    command = [sys.executable, "-c", IGNORE_CHILDREN, "-c", CHECK_POLICY]
    done = subprocess.run(
        [*command, document, f"{document}.sig"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "OFFLINE_BUNDLE_POLICY": str(policy)},
    )
    assert done.stderr.strip() == kind


RUN_ANOTHER = """import subprocess, sys
done = subprocess.run([sys.argv[1], "run", "--quiet", sys.argv[2]], capture_output=True, text=True)
print(done.stdout, done.stderr)
"""


def test_script_can_run_another_script_of_the_bundle_with_uv(node: Node) -> None:
    (node.bundle / "uv.toml").write_text(UV_TOML)
    script = node.write("eval.py", BundleScript(dependencies=["alpha"], body=RUN_ANOTHER).text)
    other = node.write(
        "other.py", BundleScript(dependencies=["beta"], body="import beta\nprint('beta runs')").text
    )
    done = node.run("-q", script, UV or "uv", other)
    assert "beta runs" in done.stdout, done.stdout
