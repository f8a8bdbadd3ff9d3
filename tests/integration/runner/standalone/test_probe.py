"""What `probe` says of machines, this one and stranger ones; its node.json comes back in
tests/builder/test_node.py.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offline_bundle.runner.standalone import probe
from offline_bundle.wheelhouse.runtime.disk.cache_dir import cache_candidates
from offline_bundle.wheelhouse.runtime.disk.cache_setup import cache_directory
from offline_bundle.wheelhouse.runtime.disk.node_identity import node_identity
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter
from tests.support.machine import bubblewrap, pyenv_interpreter

pytestmark = pytest.mark.measured

PROBE = Path(probe.__file__)


def probed(*command: str, **variables: str) -> dict[str, Any]:
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def bare_description() -> dict[str, Any]:
    """Of this machine, with nothing on PATH and no pyenv: that is quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        patch.setenv("PYENV_ROOT", "/nothing")
        return probe.describe()


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("minor", ["3.6", "3.8", "3.9", "3.13"])
def test_it_runs_alone_on_old_and_new_pythons_and_says_the_same(minor: str, tmp_path: Path) -> None:
    alone = shutil.copy(PROBE, tmp_path / "probe.py")
    node = probed(
        pyenv_interpreter(minor),
        str(alone),
        PATH="",
        PYENV_ROOT=str(tmp_path),
        UV_PYTHON_INSTALL_DIR=str(tmp_path),
    )
    assert [python["version"].rpartition(".")[0] for python in node["pythons"]] == [minor]
    assert (node["system"], node["machine"]) == node_identity()[:2]
    assert f"{node['libc']['family']} {node['libc']['version']}" == node_identity()[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probe.py"], "it writes nothing"


def test_it_finds_caches_where_the_launcher_does(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.cache_candidates() == cache_candidates()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    assert (
        probe.cache_candidates()
        == cache_candidates()
        == [str(tmp_path / "cache/offline-bundle"), cache_candidates()[1]]
    )
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", "relative")
    assert probe.cache_candidates() == cache_candidates() == [str(Path.cwd() / "relative")]
    monkeypatch.delenv("OFFLINE_BUNDLE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    assert probe.cache_candidates() == cache_candidates()
    assert own_home.is_dir()


def make_foreign(kind: str, folder: Path) -> Path:
    cache = folder / "cache"
    if kind == "file":
        cache.write_text("")
    elif kind == "link":
        folder.chmod(0o1777)
        (folder / "elsewhere").mkdir()
        cache.symlink_to(folder / "elsewhere")
    else:
        cache.mkdir(mode=0o700)
    if kind == "shared":
        cache.chmod(0o777)
    if kind == "no sticky bit":
        folder.chmod(0o777)
    if kind == "other owner":
        os.chown(cache, 12345, 12345)
    return cache


@pytest.mark.parametrize(
    "kind", ["sound", "file", "link", "shared", "no sticky bit", "other owner"]
)
def test_it_judges_a_cache_as_the_launcher_does(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "other owner" and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    cache = make_foreign(kind, tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(cache))
    place = probe._describe_cache(str(cache))
    if kind == "sound":
        assert cache_directory() == str(cache)
        assert (place["fault"], place["writable"], place["exists"]) == (None, True, True)
        return
    with pytest.raises(BundleError) as refused:
        cache_directory()
    assert place["fault"], refused.value.message
    assert place["fault"] in refused.value.message


def test_a_cache_that_is_not_there_is_judged_by_where_it_would_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "not" / "there"))
    [place] = bare_description()["caches"]
    assert not place["exists"]
    assert place["writable"]
    assert place["free"]
    assert place["filesystem"]
    assert not (tmp_path / "not").exists()


def test_odd_entries_of_path_are_passed_over(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "python3").symlink_to(tmp_path / "gone")
    (odd / "python3.9").mkdir()
    (odd / "python3.10").write_text("not executable")
    (odd / "python").symlink_to("python")  # a loop
    (odd / "python3-config").symlink_to(sys.executable)
    program(odd / "python3.11", "#!/no/such/interpreter\n")
    program(odd / "python3.12", "#!/bin/sh\nexit 3\n")
    program(odd / "python3.13", "#!/bin/sh\necho '[1, 2'\n")
    program(odd / "python3.14", "#!/bin/sh\necho '{\"version\": null}'\n")
    program(odd / "uv", "#!/bin/sh\necho gibberish\n")
    (tmp_path / "again").symlink_to(odd)
    path = os.pathsep.join(
        ["", ".", "relative", str(odd), str(tmp_path / "none"), str(tmp_path / "again"), str(odd)]
    )
    empty = str(tmp_path / "none")
    node = probed(
        sys.executable, str(PROBE), PATH=path, PYENV_ROOT=empty, UV_PYTHON_INSTALL_DIR=empty
    )
    assert [python["found"] for python in node["pythons"]] == ["this one"]
    assert node["uv"] == [{"path": str(odd / "uv"), "version": None}]


def test_programs_that_hang_or_talk_without_end_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 1)
    hanging = tmp_path / "pid"
    program(tmp_path / "bin" / "python3", f"#!/bin/sh\nsleep 1000 & echo $! > {hanging}; wait\n")
    program(tmp_path / "bin" / "python3.9", "#!/bin/sh\nwhile :; do echo yes; done\n")
    program(tmp_path / "bin" / "uv", "#!/bin/sh\necho 'uv 1.2.3 (abc)'\nsleep 1000\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    node = probe.describe()
    assert str(tmp_path / "bin/python3") not in json.dumps(node["pythons"])
    assert node["uv"] == [{"path": str(tmp_path / "bin/uv"), "version": "1.2.3"}]
    state = Path(f"/proc/{hanging.read_text().strip()}/stat")
    assert not state.exists() or " Z " in state.read_text(), "what it started has ended too"


def test_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "UV_DEFAULT_INDEX", "https://user:hunter2@index.example/simple?token=hunter2#hunter2"
    )
    monkeypatch.setenv(
        "UV_INDEX", "a=https://u:hunter2@one.example/x b=https://hunter2@two.example/y"
    )
    monkeypatch.setenv(
        "UV_FIND_LINKS", "https://one.example/@x,https://u:hunt/er@hunter2@two.example"
    )
    monkeypatch.setenv("UV_INDEX_A_PASSWORD", "hunter2")
    monkeypatch.setenv("UV_PUBLISH_TOKEN", "hunter2")
    monkeypatch.setenv("HPS_PASSWORD", "hunter2")
    node = bare_description()
    text = probe.render(node)
    assert "hunter2" not in text
    assert "HPS_PASSWORD" not in text
    variables = node["environment"]
    assert variables["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert variables["UV_INDEX"] == "a=https://one.example/x b=https://two.example/y"
    assert variables["UV_INDEX_A_PASSWORD"] is None


def test_a_virtual_environment_is_told_by_its_base(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True
    )
    empty = str(tmp_path / "none")
    node = probed(
        str(tmp_path / "venv/bin/python"),
        str(PROBE),
        PATH="",
        PYENV_ROOT=empty,
        UV_PYTHON_INSTALL_DIR=empty,
    )
    [python] = node["pythons"]
    assert python["path"] == find_interpreter(sys.version_info[:2])


def test_in_a_bare_root_what_cannot_be_found_is_null() -> None:
    base = find_interpreter(sys.version_info[:2])
    assert base
    prefix = Path(base).parent.parent
    seen = [str(prefix), "/lib", "/lib64", "/usr/lib"]
    binds = [part for path in seen if Path(path).exists() for part in ("--ro-bind", path, path)]
    node = probed(
        bubblewrap(), "--unshare-all", *binds, "--ro-bind", str(PROBE), "/probe.py", "--dev", "/dev",
        "--clearenv", "--uid", "1000", base, "/probe.py", "--no-hostname",
    )  # fmt: skip
    assert node["hostname"] is None
    assert node["bubblewrap"] is None
    assert node["distribution"] is None
    assert node["uv"] == []
    assert {"system", "machine", "libc"} <= {key for key, value in node.items() if value}


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offline_bundle", "probe", "--no-hostname", "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "node.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    node = json.loads((tmp_path / "node.json").read_text())
    assert node["format"] == 1
    assert node["hostname"] is None
    failed = subprocess.run(
        [*command, str(tmp_path / "no" / "node.json")], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert "cannot be written" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_it_explains_its_usage() -> None:
    done = subprocess.run(
        [sys.executable, str(PROBE), "--nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert not PROBE.stat().st_mode & stat.S_IWOTH
