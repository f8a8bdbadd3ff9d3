"""What `build` prints before and after: sizes, the libc floor, unneeded files; and settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import cli, run_command_line
from offline_bundle.wheelhouse.cli.kit.settings import read_settings
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
NAMES = ("leaf", "medium", "large", "tiny")


@pytest.fixture
def line(
    tmp_path: Path, packages: Path, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The command line of a build for glibc 2.28 of four packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_NO_CONFIG", "1")
    for name, size in zip(NAMES, (3000, 20_000, 400_000, 10), strict=True):
        content = "".join(chr(33 + (n * n) % 89) for n in range(size))
        tag = f"cp{HERE.replace('.', '')}-cp{HERE.replace('.', '')}-manylinux_2_17_x86_64"
        make_wheel(
            packages,
            name,
            tag=tag if name == "leaf" else "py3-none-any",
            files={f"{name}.txt": content},
        )
    write_script(*NAMES)
    platform = ["--python-platform", "x86_64-manylinux_2_28"]
    return [
        *("build", "job.py", "-o", "bundle", "--default-index", index.url, "--no-uv"),
        *("--no-bytecode", *platform),
    ]


def write_script(*dependencies: str) -> None:
    header = f'# requires-python = "=={HERE}.*"\n# dependencies = {json.dumps(dependencies)}\n'
    Path("job.py").write_text(f"# /// script\n{header}# ///\n")


def run(line: list[str], *options: str) -> int:
    return run_command_line(cli, [*line, *options], "offline-bundle")


def test_build_names_sizes_before_and_floor_and_unneeded_files_after(
    line: list[str], capsys: pytest.CaptureFixture[str], packages: Path
) -> None:
    assert run(line) == 0
    before, _, after = capsys.readouterr().err.partition("Fetching 4 files, ")
    [largest] = [text for text in before.splitlines() if text.startswith("Largest")]
    assert [word for word in largest.replace(",", "").split() if word in NAMES] == [
        "large",
        "medium",
        "leaf",
    ]
    assert "4 packages, runs on glibc 2.17 or newer\n" in after
    assert "prune" not in after
    make_wheel(packages, "large", "2.0")
    assert run(line) == 0
    assert "offline-bundle prune bundle\n" in capsys.readouterr().err
    assert run(line, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unneeded"]["files"] >= 2
    assert document["unneeded"]["size"] > 0
    assert document["locks"][0]["libc"] == "2.17"


def test_printed_commands_are_quoted_for_a_shell(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("job.py").rename("my job.py")
    names = {"job.py": "my job.py", "bundle": "my bundle"}
    assert run([names.get(word, word) for word in line]) == 0
    said = capsys.readouterr().err
    assert "offline-bundle run 'my job.py' --bundle 'my bundle'\n" in said
    assert "python3 'my bundle/run.py' 'my job.py'\n" in said
    assert run_command_line(cli, ["pack", "my bundle", "-o", "a b.tar"], "offline-bundle") == 0
    assert "python3 'a b.tar.unpack.py' 'a b.tar' -o DIR\n" in capsys.readouterr().err


def test_settings_travel_in_the_bundle(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.toml"
    site.write_text('url = "https://hps.site.example/hps"\nusername = "me"\n')
    assert run(line, "--settings", str(site)) == 0
    raise_for_problems(verify(Path("bundle")))
    assert read_settings(Path("bundle"))["url"].value == "https://hps.site.example/hps"
    assert read_settings(Path("bundle"))["url"].origin == "bundle/offline-bundle.toml"
    assert run(line) == 0, "a build without --settings keeps them"
    assert "is up to date" in capsys.readouterr().err
    site.write_text('bundle = "x"\n')
    assert run(line, "--settings", str(site)) == 2
    assert "bundle: a bundle cannot set it" in capsys.readouterr().err


def test_targets_of_a_node_file_override_configured_ones(
    line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OFFLINE_BUNDLE_PYTHON_PLATFORM", "aarch64-apple-darwin")
    assert run_command_line(cli, ["probe", "-o", "node.json"], "offline-bundle") == 0
    without_platform = line[:-2]
    write_script("tiny")
    assert run(without_platform, "--node", "node.json", "--check") == 9
    assert "exclude each other" not in capsys.readouterr().err
    assert run(without_platform) == 0
    assert "on aarch64-apple-darwin: 1 package\n" in capsys.readouterr().err
