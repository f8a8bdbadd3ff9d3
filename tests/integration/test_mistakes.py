"""What newcomers get wrong, and what each is told: compared with tests/snapshots/mistakes.txt.

None of these needs a network. `tests/support/snapshots.py` has the command that updates the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import cli, run_command_line
from tests.support.bundles import BundleScript, make_bundle
from tests.support.error_cases import faults_of
from tests.support.snapshots import check_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

Case = tuple[str, str, int]

HEADER = "# /// script\n# dependencies = []\n# ///\n"
FILES = {
    "good.py": HEADER,
    "plain.py": "import numpy as np\nfrom PIL import Image\nimport json\n",
    "key.py": '# /// script\n# dependancies = ["numpy"]\n# ///\n',
    "below.py": '# /// script\n# [[tool.uv.index]]\n# url = "https://x"\n# dependencies = ["numpy"]\n# ///\n',
    "name.py": '# /// scirpt\n# dependencies = ["numpy"]\n# ///\n',
    "space.py": '#/// script\n# dependencies = ["numpy"]\n# ///\n',
    "quotes.py": "# /// script\n# dependencies = [numpy]\n# ///\n",
    "string.py": '# /// script\n# dependencies = "numpy"\n# ///\n',
    "equals.py": '# /// script\n# dependencies = ["numpy=2"]\n# ///\n',
    "version.py": '# /// script\n# requires-python = "3.12"\n# ///\n',
    "none.py": '# /// script\n# requires-python = ">=3.12,<3.12"\n# ///\n',
    "open.py": "# /// script\n# dependencies = []\nimport os\n",
    "blank.py": '# /// script\n# dependencies = [\n\n#   "numpy",\n# ]\n# ///\n',
    "twice.py": HEADER + HEADER,
    "loose.py": '# dependencies = ["numpy"]\nimport numpy\n',
    "underscore.py": '# /// script\n# requires_python = ">=3.12"\n# ///\n',
    "outside.py": '# /// script\n# exclude-newer = "2026-01-01"\n# ///\n',
    "other/good.py": HEADER,
    "more.py": '# /// script\n# dependencies = ["numpy"]\n# ///\n',
    "requirements.txt": "numpy\n",
    "environment.yml": "name: x\ndependencies:\n  - python=3.12\n  - numpy\n",
    "study.ipynb": '{"cells": [{"cell_type": "code", "source": "1"}]}',
    "pyproject.toml": '[project]\nname = "x"\nversion = "1"\n',
    "job.sh": "#!/bin/sh\npython eval.py\n",
    "node.json": "not JSON",
    "values.csv": "a,b\n1\n",
    "mine/notes.txt": "keep\n",
    "helpers/a.py": "import os\n",
    "bundle.tar": "x" * 600,
    "site/offline-bundle.toml": 'urll = "https://x"\n',
    "group.toml": '[project]\nname = "x"\nversion = "1"\n[dependency-groups]\nplots = []\n',
    "bad-requirements.txt": "numpy\n--trusted-host x\n",
}


def cases() -> Iterator[Case]:
    """Title, command line, exit code."""
    scripts = (
        ("a misspelt key", "key.py"),
        ("a key below a table", "below.py"),
        ("a misspelt opening", "name.py"),
        ("an opening without a blank", "space.py"),
        ("a requirement without quotes", "quotes.py"),
        ("a string in place of a list", "string.py"),
        ("one equals sign", "equals.py"),
        ("a version without an operator", "version.py"),
        ("versions that no Python has", "none.py"),
        ("a block without an end", "open.py"),
        ("an empty line in the block", "blank.py"),
        ("two blocks", "twice.py"),
        ("a header without its frame", "loose.py"),
        ("an underscore in a key", "underscore.py"),
        ("a setting of uv outside its table", "outside.py"),
        ("no header", "plain.py"),
        ("two scripts of one name", "good.py other/good.py"),
        ("a script and its helper, as by the shell's pattern", "good.py helpers/a.py"),
        ("a folder without scripts", "helpers"),
        ("a pattern without a match", "nosuch/*.py"),
        ("a requirements file", "requirements.txt"),
        ("a conda environment", "environment.yml"),
        ("a notebook without metadata", "study.ipynb"),
        ("a project", "pyproject.toml"),
        ("an archive", "bundle.tar"),
        ("a bundle", "whole"),
        ("a shell script", "job.sh"),
    )
    yield from ((title, f"build {names} -o b", 2) for title, names in scripts)
    yield from (
        ("no output", "build good.py", 2),
        ("an output that is in use", "build good.py -o mine", 2),
        ("a misspelt command", "biuld good.py -o b", 2),
        ("a misspelt option", "build good.py -o b --lokced", 2),
        ("a program for a version", "build good.py -o b --python-version python3.12", 2),
        (
            "pip's name of a platform",
            "build good.py -o b --python-platform manylinux2014_x86_64",
            2,
        ),
        (
            "a platform without its processor",
            "build good.py -o b --python-platform manylinux_2_28",
            2,
        ),
        ("a node file that is missing", "build good.py -o b --node nosuch.json", 2),
        ("a node file of something else", "build good.py -o b --node node.json", 2),
        ("a format that is none", "build good.py -o b --format zip", 2),
        (
            "two files for the header",
            "build plain.py -o b --requirements requirements.txt --project .",
            2,
        ),
        ("a group without a project", "build plain.py -o b --group plots", 2),
        ("a group that is none", "build plain.py -o b --project group.toml --group plot", 2),
        (
            "a file for a header that is there",
            "build good.py -o b --requirements requirements.txt",
            2,
        ),
        ("an option of pip", "build plain.py -o b --requirements bad-requirements.txt", 2),
        ("a missing requirements file", "build plain.py -o b --requirements nosuch.txt", 2),
        ("a missing lock", "build plain.py -o b --pylock pylock.toml", 2),
        ("a setting that is none", "build good.py -o b --settings site/offline-bundle.toml", 2),
        ("an option without its value", "build good.py -o b --allow-build", 2),
    )
    yield from (
        ("no bundle", "run good.py", 2),
        ("an archive in place of a bundle", "run good.py --bundle bundle.tar", 2),
        ("a bundle that is none", "run good.py --bundle mine -j 1", 2),
        ("a script without metadata", "run plain.py --bundle whole -j 1", 2),
        ("a script with new dependencies", "run more.py --bundle whole -j 1", 7),
        ("no jobs", "run good.py --bundle whole -j 0", 2),
        ("arguments without dashes", "run good.py --bundle whole --mesh fine", 2),
        ("a value without a name", "submit good.py --bundle whole --engine local --set 3", 2),
        ("a table that is missing", "submit good.py --bundle whole --values nosuch.csv", 2),
        (
            "a table with a short row",
            "submit good.py --bundle whole --engine local --values values.csv",
            2,
        ),
        (
            "an option of another engine",
            "submit good.py --bundle whole --engine local --partition x",
            2,
        ),
        ("an engine that is none", "submit good.py --bundle whole --engine nomad", 2),
        ("a script to show", "show good.py", 2),
        ("a misspelt option of show", "show whole --jsn", 2),
        ("a script to verify", "verify good.py", 2),
        ("a root of trust that is missing", "verify whole --trusted-root root.json", 2),
        ("settings of no bundle", "config --bundle nosuch", 2),
        ("an archive without a place", "unpack bundle.tar", 2),
        ("an archive that is none", "unpack bundle.tar -o b", 5),
        ("one bundle to compare", "diff whole", 2),
        ("a script that the bundle has not", "prune whole --drop-script study", 2),
        ("no key", "sign whole", 2),
        ("no shell", "completion", 2),
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_NO_CONFIG", "1")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("OFFLINE_BUNDLE", "HPS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    make_bundle(Path("whole"), {"eval": BundleScript()})
    return tmp_path


def test_every_mistake_side_by_side(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def tidy(text: str) -> str:
        text = text.replace(str(place.resolve()), "HERE")
        return re.sub(r"Python 3\.\d+(\.\d+)?|3\.\d+\.\d+", "PYTHON", text)

    before = sorted(Path().rglob("*"))
    blocks, faults = [], []
    for title, line, expected in cases():
        capfd.readouterr()
        code = run_command_line(cli, line.split(), "offline-bundle")
        output = capfd.readouterr()
        text = tidy(output.out + output.err)
        blocks.append(f"# {title}\n$ offline-bundle {line}\n{text.rstrip()}\nexit {code}\n")
        faults += [f"{title}: {fault}" for fault in faults_of(code, expected, text)]
    check_snapshot("mistakes.txt", "\n".join(blocks))
    assert faults == []
    assert len(blocks) > 50
    assert [path for path in sorted(Path().rglob("*")) if ".writer" not in path.parts] == before
