"""What docs/how-to/review.md tells a reviewer to type does what it says there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from offline_bundle.wheelhouse.signing import sign
from offline_bundle.wheelhouse.store import shipped
from tests.support.archives import put_bundle
from tests.support.bundles import BundleScript, make_bundle
from tests.support.command_line import call
from tests.support.pages import shell_blocks, type_in
from tests.support.programs import require
from tests.support.reviewed import LINUX, Shelf
from tests.support.signing_cases import allowing, make_key, public

DOCUMENT = Path(__file__).parents[3] / "docs" / "how-to" / "review.md"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shelf = Shelf()
    place = tmp_path / "bundle"
    shelf.write(place, shelf.manifest({"eval": {LINUX: [shelf.wheel("numpy")]}}))
    make_key(tmp_path / "alice")
    sign(place, str(tmp_path / "alice"))
    allowing(tmp_path, f"alice {public(tmp_path / 'alice')}")
    return place


def command(beginning: str) -> str:
    """The command of the table that begins so."""
    cells = re.findall(
        r"^\| [^|]* \| `(.*?[^\\])` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    (found,) = [cell.replace("\\|", "|") for cell in cells if cell.startswith(beginning)]
    return found.replace("-f allowed_signers", "-f ../allowed_signers").replace("NAME", "alice")


def run(beginning: str, bundle: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", command(beginning)],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    return done.returncode, done.stdout


def test_damage_is_found_with_coreutils(bundle: Path) -> None:
    assert run("sha256sum", bundle) == (0, "")
    (bundle / "scripts" / "eval.py").write_text("import evil")
    code, said = run("sha256sum", bundle)
    assert code == 1
    assert "scripts/eval.py: FAILED" in said


def test_what_is_extra_is_found_with_coreutils(bundle: Path) -> None:
    assert run("find", bundle) == (0, "SHA256SUMS\nbundle.json.sig\n")
    (bundle / "wheels" / "planted.whl").touch()
    (bundle / "link").symlink_to("/etc/passwd")
    assert run("find", bundle)[1] == "SHA256SUMS\nbundle.json.sig\nlink\nwheels/planted.whl\n"


def test_the_signature_is_checked_with_ssh_keygen(bundle: Path) -> None:
    assert run("ssh-keygen -Y find", bundle) == (0, "alice\n")
    assert run("ssh-keygen -Y verify", bundle)[0] == 0
    with (bundle / "bundle.json").open("a") as manifest:
        manifest.write(" ")
    assert run("ssh-keygen -Y verify", bundle)[0] != 0


def test_the_signed_list_is_checked_with_jq(bundle: Path) -> None:
    require("jq")
    assert run("jq", bundle) == (0, "")
    (bundle / "scripts" / "eval.py").write_text("import evil")
    assert "scripts/eval.py: FAILED" in run("jq", bundle)[1]


def test_the_modules_file_is_compared_with_coreutils(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript()})
    assert run("{ for f", bundle) == (0, "")
    [path] = bundle.glob("runtime/modules-*.txt")
    with path.open("a") as modules:
        modules.write("import evil\n")
    assert run("{ for f", bundle)[0] == 1


def test_the_launcher_of_a_site_is_installed_as_written(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "BUNDLE", {"eval": BundleScript(body="print('ran')")})
    (tmp_path / "ARCHIVE.unpack.py").write_bytes(shipped.unpacker())
    text = DOCUMENT.read_text(encoding="utf-8")
    commands = re.findall(r"^    ((?:mkdir|cp) .*)", text, re.MULTILINE)
    script = "\n".join(commands).replace("/opt/offline-bundle", str(tmp_path / "site"))
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True)
    assert (tmp_path / "site" / "unpack.py").is_file()
    launcher = [sys.executable, "-I", "-S", tmp_path / "site" / "run.py"]
    variables = {**os.environ, "OFFLINE_BUNDLE_UV": find_uv_bin()}
    done = subprocess.run(
        [*launcher, "--bundle", bundle, bundle / "scripts" / "eval.py"],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ran\n"


class Reviewer:
    """A folder with everything that the procedure needs, and an archive to review."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        built = put_bundle(folder / "built", {"eval": {"alpha": "1.5", "beta": "1.0"}})
        last = put_bundle(folder / "last", {"eval": {"alpha": "1.0"}})
        make_key(folder / "release")
        sign(built, str(folder / "release"))
        allowing(folder, f"release@example.org {public(folder / 'release')}")
        assert call("pack", built, "-o", folder / "bundle.tar").code == 0
        (folder / "accepted").mkdir()
        shutil.copy(last / "bundle.json", folder / "accepted")
        (folder / "rules.toml").write_text('denied-packages = ["pycrypto"]\n')
        (folder / "exceptions.toml").write_text("")
        self.publish(version="1.0")

    def publish(self, version: str) -> None:
        """Write a database with an advisory for one version of alpha."""
        package = {"ecosystem": "PyPI", "name": "alpha"}
        advisory = {"id": "T-1", "affected": [{"package": package, "versions": [version]}]}
        with zipfile.ZipFile(self.folder / "advisories.zip", "w") as archive:
            archive.writestr("T-1.json", json.dumps(advisory))

    def follow(self) -> subprocess.CompletedProcess[str]:
        blocks = shell_blocks(DOCUMENT)
        assert len(blocks) == 5
        return type_in(blocks, self.folder)

    @property
    def is_let_in(self) -> bool:
        return (self.folder / "share" / "bundle" / "bundle.json").exists()


@pytest.fixture
def reviewer(tmp_path: Path) -> Reviewer:
    return Reviewer(tmp_path)


def test_the_procedure_leads_from_the_archive_to_the_nodes(reviewer: Reviewer) -> None:
    done = reviewer.follow()
    assert done.returncode == 0, done.stderr
    assert "alpha" in done.stdout
    page = (reviewer.folder / "review.html").read_text()
    assert "none known" in page
    assert "2 packages changed" in page
    accepted = (reviewer.folder / "accepted" / "bundle.json").read_bytes()
    assert (reviewer.folder / "share" / "bundle" / "bundle.json").read_bytes() == accepted


def test_a_changed_byte_ends_the_procedure(reviewer: Reviewer) -> None:
    archive = reviewer.folder / "bundle.tar"
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    assert reviewer.follow().returncode == 5
    assert not reviewer.is_let_in


def test_another_signer_ends_the_procedure(reviewer: Reviewer) -> None:
    make_key(reviewer.folder / "mallory")
    allowing(reviewer.folder, f"release@example.org {public(reviewer.folder / 'mallory')}")
    assert reviewer.follow().returncode == 6
    assert not reviewer.is_let_in


def test_a_broken_rule_ends_the_procedure(reviewer: Reviewer) -> None:
    (reviewer.folder / "rules.toml").write_text('denied-packages = ["beta"]\n')
    assert reviewer.follow().returncode == 10
    assert not (reviewer.folder / "review").exists()
    assert not reviewer.is_let_in


def test_an_open_vulnerability_ends_the_procedure(reviewer: Reviewer) -> None:
    reviewer.publish(version="1.5")
    assert reviewer.follow().returncode == 10
    assert "T-1" in (reviewer.folder / "review.html").read_text()
    assert not reviewer.is_let_in
    exception = '[[exception]]\nid = "T-1"\nreason = "not reachable"\nuntil = 9999-12-31\n'
    (reviewer.folder / "exceptions.toml").write_text(exception)
    assert reviewer.follow().returncode == 0
    assert reviewer.is_let_in
