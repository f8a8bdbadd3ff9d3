"""Every kind of error, provoked as a user would, and compared with tests/snapshots/errors.txt.

`tests/support/snapshots.py` has the command that updates the file.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.cli import cli, run_command_line
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, render_checksums
from tests.support.bundles import BundleScript, make_bundle, read_manifest
from tests.support.command_line import HERE
from tests.support.distributions import make_buildable_sdist, make_wheel
from tests.support.error_cases import SECRET, faults_of
from tests.support.index_server import Fault, IndexServer
from tests.support.signing_cases import allowing, make_key, public
from tests.support.snapshots import check_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
ERRORS = {
    *(
        "BundleError",
        "InputError",
        "ResolveError",
        "FetchError",
        "IntegrityError",
        "SignatureError",
    ),
    *("NotInBundleError", "JobsFailedError", "OutOfDateError", "LaunchError", "Refusal"),
}

Case = tuple[str, list[str], int]


@pytest.fixture
def place(
    tmp_path: Path, index: IndexServer, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory, with valid and invalid scripts, bundles, archives and keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HPS_PASSWORD", SECRET)
    make_wheel(packages, "leaf")
    make_wheel(packages, "gone")
    make_buildable_sdist(packages, "sourceonly")
    index.fault("*/files/gone-*.whl", Fault.status(404))
    for name, dependency in {
        "job": "leaf",
        "lost": "nosuchpackage",
        "src": "sourceonly",
        "gone": "gone",
    }.items():
        write_script(
            f"{name}.py", f'dependencies = ["{dependency}"]', f'requires-python = "=={HERE}"'
        )
    write_script("old.py", 'requires-python = "<3"')
    write_script("words.py", "dependencies = leaf")
    write_script("other.py", 'dependencies = ["alpha", "beta"]')
    Path("plain.py").write_text("print()\n")
    Path("open.py").write_text("# /// script\n# dependencies = []\n")
    Path("latin.py").write_bytes(b"# caf\xe9\n")
    Path("full").mkdir()
    Path("full/mine.txt").touch()
    make_bundle(
        Path("whole"),
        {"eval": BundleScript(), "bad": BundleScript(body="raise SystemExit('no such mesh')")},
    )
    manifest = read_manifest(Path("whole"))
    manifest["files"]["SHA256SUMS"] = {}
    document = json.dumps(manifest).encode()
    Path("whole/bundle.json").write_bytes(document)
    Path("whole/SHA256SUMS").write_bytes(render_checksums(Manifest.from_json(document), document))
    damaged = Path(shutil.copytree("whole", "damaged"))
    (damaged / "scripts/eval.py").write_text("changed")
    (damaged / "scripts/bad.py").unlink()
    (damaged / "extra.txt").touch()
    make_bundle(Path("foreign"), {"eval": BundleScript()}, platforms=["aarch64-apple-darwin"])
    shutil.copytree("whole", "garbled")
    Path("garbled/bundle.json").write_text('{"format": 1, "files": {"../x": {}}}')
    shutil.copytree("whole", "newer")
    Path("newer/bundle.json").write_text('{"format": 2}')
    Path("cut.tar").write_bytes(b"bundle.json" + bytes(2000))
    Path("values.csv").write_text("a,a\n1,2\n")
    make_key(tmp_path / "alice")
    allowing(tmp_path, f"alice {public(tmp_path / 'alice')}")
    return tmp_path


def write_script(name: str, *lines: str) -> None:
    block = "".join(f"# {line}\n" for line in lines)
    Path(name).write_text(f"# /// script\n{block}# ///\n")


def cases() -> Iterator[Case]:
    """Title, command line, exit code."""
    yield "a command that is none", ["nosuch"], 2
    yield from (
        ("nothing given", ["build"], 2),
        ("an option that is none", ["build", "job.py", "-o", "b", "--nosuch"], 2),
        ("no such script", ["build", "nosuch.py", "-o", "b"], 2),
        ("a folder for a script", ["build", "full", "-o", "b"], 2),
        ("no metadata", ["build", "plain.py", "-o", "b"], 2),
        ("metadata that does not end", ["build", "open.py", "-o", "b"], 2),
        ("metadata that is no TOML", ["build", "words.py", "-o", "b"], 2),
        ("not UTF-8", ["build", "latin.py", "-o", "b"], 2),
        ("several at once", ["build", "nosuch.py", "open.py", "words.py", "-o", "b"], 2),
        ("a folder of something else", ["build", "job.py", "-o", "full"], 2),
        ("a file for a folder", ["build", "job.py", "-o", "plain.py"], 2),
        ("no such Python", ["build", "job.py", "-o", "b", "--python-version", "three"], 2),
        ("no Python that fits", ["build", "old.py", "-o", "b"], 2),
        ("no such platform", ["build", "job.py", "-o", "b", "--python-platform", "vax"], 2),
        (
            "no such glibc",
            ["build", "job.py", "-o", "b", "--python-platform", "x86_64-manylinux_2_19"],
            2,
        ),
        (
            "options that exclude each other",
            ["build", "job.py", "-o", "b", "--no-uv", "--uv-version", "0.9"],
            2,
        ),
        ("no such constraints", ["build", "job.py", "-o", "b", "--constraint", "nosuch.txt"], 2),
        (
            "no such folders of packages",
            [
                "build",
                "job.py",
                "-o",
                "b",
                "--index",
                "x=",
                "--default-index",
                "index.example",
                "--find-links",
                "w",
            ],
            2,
        ),
        ("not a package", ["build", "job.py", "-o", "b", "--allow-build", "a b"], 2),
        ("no scheme", ["build", "job.py", "-o", "b", "--osv-server", "osv.example"], 2),
        ("not a date", ["build", "job.py", "-o", "b", "--exclude-newer", "yesterday"], 2),
        ("no such package", ["build", "lost.py", "-o", "b", "--no-uv"], 3),
        ("only a source distribution", ["build", "src.py", "-o", "b", "--no-uv"], 4),
        ("a wheel that is gone", ["build", "gone.py", "-o", "b", "--no-uv"], 4),
        (
            "an index that is not there, with a password",
            [
                "build",
                "job.py",
                "-o",
                "b",
                "--no-uv",
                "--default-index",
                f"http://me:{SECRET}@127.0.0.1:9/simple",
            ],
            4,
        ),
        ("no bundle to check", ["build", "job.py", "-o", "b", "--no-uv", "--check"], 9),
    )
    yield from (
        ("no such bundle", ["verify", "nosuch"], 2),
        ("no bundle there", ["verify", "full"], 2),
        ("damaged", ["verify", "damaged"], 5),
        ("a manifest that is none", ["verify", "garbled"], 5),
        ("a manifest of a later format", ["show", "newer"], 5),
        ("no signature", ["verify", "whole", "--allowed-signers", "allowed_signers"], 6),
        ("options that need another", ["verify", "whole", "--signer", "alice"], 2),
        ("no such list of signers", ["verify", "whole", "--allowed-signers", "nosuch"], 2),
        ("no such key", ["sign", "whole", "nosuch"], 2),
        ("signing what is damaged", ["sign", "damaged", "alice"], 5),
        ("nothing to compare with", ["diff", "whole", "nosuch"], 2),
        ("packing what is damaged", ["pack", "damaged", "-o", "out.tar"], 5),
        ("a size that is none", ["pack", "whole", "-o", "out.tar", "--split-size", "big"], 2),
        ("no such folder for an archive", ["pack", "whole", "-o", "nosuch/out.tar"], 2),
        ("no such archive", ["unpack", "nosuch.tar", "-o", "b"], 2),
        ("an archive that is none", ["unpack", "cut.tar", "-o", "b"], 5),
        ("a name that is not in the bundle", ["prune", "whole", "--drop-script", "study"], 2),
        ("a time that is none", ["prune", "whole", "--grace", "soon"], 2),
    )
    yield from (
        ("no such script to run", ["run", "nosuch.py", "--bundle", "whole"], 2),
        ("no bundle named", ["run", "job.py"], 2),
        (
            "dependencies that are not in the bundle",
            ["run", "other.py", "--bundle", "whole", "-j", "1"],
            7,
        ),
        (
            "a bundle for other nodes",
            ["run", "foreign/scripts/eval.py", "--bundle", "foreign", "-j", "1"],
            7,
        ),
        (
            "no such interpreter",
            ["run", "whole/scripts/eval.py", "--bundle", "whole", "-j", "1", "--python", "/x"],
            2,
        ),
        (
            "a script that fails",
            ["run", "whole/scripts/bad.py", "--bundle", "whole", "-j", "1", "-q"],
            8,
        ),
        (
            "jobs' options without jobs",
            ["run", "job.py", "--bundle", "whole", "--parallel", "2"],
            2,
        ),
        (
            "jobs' folders that are taken",
            ["run", "job.py", "--bundle", "whole", "-j", "1", "--output", "taken"],
            2,
        ),
        ("a table and a number", ["submit", "job.py", "--values", "values.csv", "-j", "3"], 2),
        (
            "a table with a name twice",
            ["submit", "job.py", "--bundle", "whole", "--values", "values.csv"],
            2,
        ),
        ("no bundle for the embedded HPS", ["submit", "job.py", "--embedded"], 2),
        ("a variable that is none", ["submit", "job.py", "--bundle", "/share", "--env", "X"], 2),
        ("a size of memory that is none", ["submit", "job.py", "--memory", "much"], 2),
        ("which project", ["jobs", "--wait"], 2),
        ("a shell that is not known", ["completion", "tcsh"], 2),
    )


def provoke(
    words: list[str], capfd: pytest.CaptureFixture[str], tidy: Callable[[str], str]
) -> tuple[int, str]:
    capfd.readouterr()
    code = run_command_line(cli, words, "offline-bundle")
    said = capfd.readouterr()
    return code, tidy(said.out + said.err)


def test_every_error_side_by_side(
    place: Path, index: IndexServer, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "taken/job-0001").mkdir(parents=True)
    (place / "taken/job-0001/old.txt").touch()

    def tidy(text: str) -> str:
        text = "".join(
            line
            for line in text.splitlines(keepends=True)
            if not line.startswith(("Resolving", "Reading", "Fetching"))
        )
        text = text.replace(f":{urlsplit(index.url).port}/", ":PORT/")
        text = re.sub(
            r"its interpreters: .*|this node: .*",
            lambda line: f"{line[0].partition(':')[0]}: …",
            text,
        )
        text = (
            text.replace(str(place.resolve()), "HERE")
            .replace(str(ROOT), "CLONE")
            .replace(os.environ["HOME"], "HOME")
        )
        text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
        text = re.sub(r"cp3\d+-[a-z0-9_]+(?:-[a-z0-9_]+)*|x86_64-manylinux_2_\d+", "TARGET", text)
        return re.sub(r"Python 3\.\d+(\.\d+)?|3\.\d+\.\d+", "PYTHON", text)

    blocks, faults = [], []
    for title, words, expected in cases():
        code, said = provoke(words, capfd, tidy)
        shown = tidy(" ".join(words)).replace(SECRET, "PASSWORD")
        blocks.append(f"# {title}\n$ offline-bundle {shown}\n{said.rstrip()}\nexit {code}\n")
        faults += [f"{title}: {fault}" for fault in faults_of(code, expected, said)]
    assert faults == []
    check_snapshot("errors.txt", "\n".join(blocks))


def test_programs_are_told_the_same(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    del place
    for words in (
        ["verify", "nosuch", "--json"],
        ["build", "--json"],
        ["build", "nosuch.py", "-o", "b", "--json"],
    ):
        capfd.readouterr()
        code = run_command_line(cli, words, "offline-bundle")
        error = json.loads(capfd.readouterr().out)["error"]
        assert error["code"] == code == 2
        assert error["message"]
        assert error["hint"] or "; " in error["message"]


def test_every_error_in_the_code_says_what_to_do_next() -> None:
    """Also those that cannot be provoked here: each has a hint where it is made."""
    silent = []
    for folder in ("builder", "runner", "wheelhouse"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ERRORS:
                    continue
                if not any(keyword.arg == "hint" for keyword in node.keywords):
                    silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert silent == []
