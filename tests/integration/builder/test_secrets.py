"""Passwords of a build: in no output, no file that it leaves, and no argument of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from tests.support.distributions import make_source_tree, make_wheel
from tests.support.git_server import private_repositories
from tests.support.index_server import IndexServer
from tests.support.programs import require
from tests.support.uv_cases import make_repository

if TYPE_CHECKING:
    from pathlib import Path

GIT, INDEX = "s3cr3t-word", "0ther-s3cr3t"
HEADS = {
    "requirement": 'dependencies = ["leaf", "vcs @ git+{url}"]\n',
    "revision": 'dependencies = ["leaf", "vcs @ git+{url}@main#egg=vcs"]\n',
    "source": 'dependencies = ["leaf", "vcs"]\n[tool.uv.sources]\nvcs = {{ git = "{url}" }}\n',
    "override": 'dependencies = ["leaf", "vcs"]\n[tool.uv]\n'
    'override-dependencies = ["vcs @ git+{url}"]\n',
}
SSH = "ssh"
# ssh sends no password of a URL. This stands for ssh to this machine: it runs the last argument.
FAKE_SSH = '#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n'


@pytest.mark.parametrize("scheme", ["http", pytest.param(SSH, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "head",
    [head if head == "source" else pytest.param(head, marks=pytest.mark.slow) for head in HEADS],
)
def test_passwords_are_nowhere(
    packages: Path, tmp_path: Path, own_home: Path, head: str, scheme: str
) -> None:
    strace, git = require("strace"), require("git")
    tree = make_source_tree(tmp_path / "served/vcs", "vcs", declared=[])
    repository = make_repository(tree)
    for command in (["branch", "-f", "-M", "main"], ["update-server-info"]):
        subprocess.run([git, *command], cwd=repository, check=True)
    make_wheel(packages, "leaf")
    script, bundle, trace = tmp_path / "job.py", tmp_path / "bundle", tmp_path / "trace"
    with (
        private_repositories(tmp_path / "served", "alice", GIT) as host,
        IndexServer(packages, username="kate", password=INDEX) as index,
    ):
        url = f"http://alice:{GIT}@{host}/vcs/.git"
        if scheme == SSH:
            url = f"ssh://alice:{GIT}@localhost{repository}/.git"
        header = 'requires-python = ">=3.11"\n' + HEADS[head].format(url=url)
        block = "".join(f"# {line}\n" for line in header.splitlines())
        script.write_text(f"# /// script\n{block}# ///\nimport leaf, vcs; print('ran')\n")
        command = [
            strace,
            "-f",
            "--seccomp-bpf",
            "-s",
            "9999",
            "-e",
            "trace=execve",
            "-o",
            str(trace),
        ]
        command += [
            sys.executable,
            "-m",
            "offline_bundle",
            "build",
            str(script),
            "--no-uv",
            "--no-bytecode",
        ]
        command += ["-o", str(bundle), "--allow-build", "vcs", "-v"]
        (tmp_path / "ssh").write_text(FAKE_SSH)
        (tmp_path / "ssh").chmod(0o755)
        variables = {
            **os.environ,
            "UV_DEFAULT_INDEX": index.url_with_credentials(),
            "GIT_SSH": str(tmp_path / "ssh"),
            "GIT_SSH_VARIANT": "ssh",
        }
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "contains a password, which the bundle leaves out" in done.stderr
    assert ("remote-http" if scheme == "http" else "alice@localhost") in trace.read_text()
    places = {"output": done.stdout + done.stderr, "arguments": trace.read_text()}
    for folder in (bundle, own_home):
        for path in folder.rglob("*"):
            if path.is_file():
                places[str(path)] = path.read_bytes().decode(errors="replace")
    assert [name for name, text in places.items() if GIT in text or INDEX in text] == []
    launcher = [sys.executable, "-S", bundle / "run.py"]
    variables = {**os.environ, "OFFLINE_BUNDLE_UV": find_uv_bin()}
    for copy in (script, bundle / "scripts" / "job.py"):
        ran = subprocess.run(
            [*launcher, copy], env=variables, capture_output=True, text=True, check=False
        )
        assert (ran.stdout, ran.returncode) == ("ran\n", 0), ran.stderr
