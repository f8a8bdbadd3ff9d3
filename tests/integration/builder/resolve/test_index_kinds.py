"""Indexes of every kind on the command line: several, pinned, wrong, private; and versions."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import (
    HERE,
    Told,
    call,
    indexes,
    read_bundle,
    versions,
    write_script,
)
from tests.support.distributions import make_buildable_sdist, make_wheel, sha256_of
from tests.support.index_server import Fault, IndexServer
from tests.support.uv_cases import trap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_MORE = (403, 410, 500)
_OTHERS = ("first-index", "unsafe-first-match")


class Site:
    """A public and a private index, and builds of a script that may use both."""

    def __init__(self, folder: Path, public: IndexServer, private: IndexServer) -> None:
        self.folder = folder
        self.public = public
        self.private = private
        self.bundle = folder / "bundle"

    def pin(self, *names: str, explicit: bool = True) -> str:
        """The lines of a script that pin packages to the private index."""
        lines = ["[[tool.uv.index]]", 'name = "own"', f'url = "{self.private.url}"']
        lines += ["explicit = true"] if explicit else []
        return "\n".join(
            [*lines, "[tool.uv.sources]", *(f'{name} = {{ index = "own" }}' for name in names)]
        )

    def build(self, *dependencies: str, tool: str = "", flags: tuple[object, ...] = ()) -> Told:
        script = write_script(self.folder, *dependencies, tool=tool)
        return call(
            "build",
            script,
            "-o",
            self.bundle,
            "--no-uv",
            "--default-index",
            self.public.url,
            *flags,
        )

    def builds(
        self, *dependencies: str, tool: str = "", flags: tuple[object, ...] = ()
    ) -> dict[str, str]:
        told = self.build(*dependencies, tool=tool, flags=flags)
        assert told.code == 0, told.text
        return versions(self.bundle)

    def anew(self) -> None:
        """Forget the bundle, but no cache."""
        shutil.rmtree(self.bundle, ignore_errors=True)


@pytest.fixture
def private(tmp_path: Path) -> Iterator[IndexServer]:
    (tmp_path / "private").mkdir()
    with IndexServer(tmp_path / "private") as server:
        yield server


@pytest.fixture
def site(
    tmp_path: Path, index: IndexServer, private: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> Site:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return Site(tmp_path, index, private)


class TestSeveralIndexes:
    """What uv calls `index-strategy`: https://docs.astral.sh/uv/concepts/indexes/."""

    @pytest.fixture(autouse=True)
    def _two_versions(self, site: Site) -> None:
        make_wheel(site.private.packages_dir, "both", "1.0")
        make_wheel(site.public.packages_dir, "both", "2.0")

    @pytest.mark.parametrize(
        ("strategy", "requirement", "version"),
        [
            ("first-index", "both", "1.0"),
            ("unsafe-first-match", "both>1", "2.0"),
            ("unsafe-best-match", "both", "2.0"),
        ],
    )
    def test_by_flag(self, site: Site, strategy: str, requirement: str, version: str) -> None:
        flags = ("--index", f"own={site.private.url}", "--index-strategy", strategy)
        assert site.builds(requirement, flags=flags) == {"both": version}
        source = site.private if version == "1.0" else site.public
        assert indexes(site.bundle) == {"both": source.url.rstrip("/")}

    def test_the_first_index_that_has_a_package_is_the_only_one_for_it(self, site: Site) -> None:
        told = site.build("both>1", flags=("--index", f"own={site.private.url}"))
        assert told.code == 3
        assert "--index-strategy" in told.err
        assert not site.bundle.exists()

    def test_by_script_configuration_and_environment(
        self, site: Site, own_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        best = 'index-strategy = "unsafe-best-match"'
        own = ("--index", site.private.url)
        assert site.builds("both", tool=f"[tool.uv]\n{best}", flags=own) == {"both": "2.0"}
        assert site.builds("both", flags=own) == {"both": "1.0"}
        (own_home / ".config/uv").mkdir(parents=True)
        (own_home / ".config/uv/uv.toml").write_text(best)
        assert site.builds("both", flags=own) == {"both": "2.0"}
        (own_home / ".config/uv/uv.toml").unlink()
        monkeypatch.setenv("UV_INDEX_STRATEGY", "unsafe-best-match")
        assert site.builds("both", flags=own) == {"both": "2.0"}


class TestPins:
    """A package pinned to an index is never taken from another."""

    @pytest.fixture(autouse=True)
    def _confusion(self, site: Site) -> None:
        make_wheel(site.public.packages_dir, "internal", "99.0")
        make_wheel(site.private.packages_dir, "internal", "1.0")

    @pytest.mark.parametrize(
        "strategy",
        ["unsafe-best-match", *(pytest.param(name, marks=pytest.mark.slow) for name in _OTHERS)],
    )
    def test_under_every_strategy_and_after_a_rebuild_from_the_cache(
        self, site: Site, strategy: str
    ) -> None:
        for _ in range(2):
            flags = ("--index-strategy", strategy)
            assert site.builds("internal", tool=site.pin("internal"), flags=flags) == {
                "internal": "1.0"
            }
            assert indexes(site.bundle) == {"internal": site.private.url.rstrip("/")}
            site.anew()
        assert not site.public.requests_for("*internal*")

    def test_where_only_another_package_asks_for_it(self, site: Site) -> None:
        """uv itself heeds a source only for what the script asks for itself."""
        make_wheel(site.public.packages_dir, "top", requires=["middle"])
        make_wheel(site.public.packages_dir, "middle", requires=["internal"])
        pin = site.pin("internal", "unrelated")
        assert site.builds("top", tool=pin) == {"top": "1.0", "middle": "1.0", "internal": "1.0"}
        assert indexes(site.bundle)["internal"] == site.private.url.rstrip("/")
        assert not site.public.requests_for("*internal-99.0*.whl")
        site.anew()
        assert site.builds("top", tool=pin)["internal"] == "1.0"

    def test_where_the_script_asks_for_it_on_another_system_only(self, site: Site) -> None:
        make_wheel(site.public.packages_dir, "top", requires=["internal"])
        dependencies = ("top", "internal; sys_platform == 'win32'")
        assert site.builds(*dependencies, tool=site.pin("internal"))["internal"] == "1.0"

    def test_also_when_the_other_index_has_nothing_that_could_be_used(self, site: Site) -> None:
        for wheel in site.public.packages_dir.glob("internal-*"):
            wheel.unlink()
        make_buildable_sdist(site.public.packages_dir, "internal", "99.0", code=trap(site.folder))
        make_wheel(site.public.packages_dir, "top", requires=["internal"])
        assert site.builds("top", tool=site.pin("internal"))["internal"] == "1.0"
        assert not (site.folder / "it-ran").exists()

    def test_when_its_own_index_has_it_no_more(self, site: Site) -> None:
        make_wheel(site.public.packages_dir, "top", requires=["internal"])
        for wheel in site.private.packages_dir.glob("internal-*"):
            wheel.unlink()
        told = site.build("top", tool=site.pin("internal"))
        assert told.code == 3
        assert "internal was not found" in told.err
        assert not site.bundle.exists()

    def test_when_its_own_index_has_the_page_but_not_the_file(self, site: Site) -> None:
        site.private.fault("*.whl", Fault.status(404))
        told = site.build("internal", tool=site.pin("internal"))
        assert told.code == 4
        assert site.private.file_url("internal-1.0-py3-none-any.whl") in told.err
        assert not site.public.requests

    def test_the_same_file_name_with_the_other_indexs_bytes_is_not_in_its_place(
        self, site: Site
    ) -> None:
        """The bundle has the public file; the pinned one has the same name and other bytes."""
        wheel = make_wheel(site.public.packages_dir, "internal", "1.0", padding=10)
        (site.public.packages_dir / "internal-99.0-py3-none-any.whl").unlink()
        assert site.builds("internal") == {"internal": "1.0"}
        told = site.build("internal", tool=site.pin("internal"))
        assert told.code == 5
        assert wheel.name in told.err
        site.anew()
        assert site.builds("internal", tool=site.pin("internal")) == {"internal": "1.0"}
        own = site.private.packages_dir / wheel.name
        assert read_bundle(site.bundle)["files"][f"wheels/{wheel.name}"]["sha256"] == sha256_of(own)

    def test_what_is_not_pinned_never_comes_from_an_explicit_index(self, site: Site) -> None:
        make_wheel(site.private.packages_dir, "only-private")
        told = site.build("internal", "only-private", tool=site.pin("internal"))
        assert told.code == 3
        assert "only-private was not found" in told.err


class TestVersions:
    """Versions of every kind, as the index has them."""

    def test_local_dev_and_yanked(self, site: Site) -> None:
        for known in ("1.0", "1.5", "2.0", "2.0+cpu", "2.1.dev3"):
            make_wheel(site.public.packages_dir, "torch", known)
        site.public.describe("torch-1.5-py3-none-any.whl", yanked="it melts")
        expected = {
            "torch==2.0": "2.0+cpu",
            "torch==2.0+cpu": "2.0+cpu",
            "torch": "2.0+cpu",
            "torch==2.1.dev3": "2.1.dev3",
            "torch>=2.1.dev1": "2.1.dev3",
            "torch==1.5": "1.5",
        }
        scripts = [
            write_script(site.folder, text, name=f"job{number}")
            for number, text in enumerate(expected)
        ]
        scripts.append(
            write_script(
                site.folder, "torch>2", tool="[tool.uv]\nprerelease = 'allow'", name="job6"
            )
        )
        told = call(
            "build", *scripts, "-o", site.bundle, "--no-uv", "--default-index", site.public.url
        )
        assert told.code == 0, told.text
        found = [versions(site.bundle, script.stem)["torch"] for script in scripts]
        assert found == [*expected.values(), "2.1.dev3"]
        assert call("verify", site.bundle).code == 0

    def test_yanked_ones_only_where_they_are_pinned(self, site: Site) -> None:
        for known in ("1.0", "1.5"):
            make_wheel(site.public.packages_dir, "torch", known)
        site.public.describe("torch-1.5-py3-none-any.whl", yanked="it melts")
        assert site.builds("torch>=1") == {"torch": "1.0"}
        assert "it melts" in site.build("torch==1.5").err

    def test_extras_and_markers(self, site: Site) -> None:
        requires = [
            "fast; extra == 'speed'",
            "winonly; sys_platform == 'win32'",
            f"new; python_version >= '{HERE}'",
        ]
        make_wheel(site.public.packages_dir, "app", requires=requires)
        for name in ("fast", "new"):
            make_wheel(site.public.packages_dir, name)
        assert set(site.builds("app")) == {"app", "new"}
        assert set(site.builds("app[speed]")) == {"app", "new", "fast"}


class TestPoorIndexes:
    """What an index may lack, and what it may say that is not so."""

    @pytest.mark.parametrize("api", ["html", "json"])
    def test_one_api_only(self, site: Site, api: str) -> None:
        site.public.api = api
        make_wheel(site.public.packages_dir, "leaf")
        assert site.builds("leaf") == {"leaf": "1.0"}

    def test_without_hashes_sizes_metadata_and_times(self, site: Site) -> None:
        site.public.hashes, site.public.upload_time, site.public.has_metadata = (), None, False
        wheel = make_wheel(site.public.packages_dir, "leaf")
        site.public.describe(wheel.name, size=None)
        assert site.builds("leaf") == {"leaf": "1.0"}
        assert read_bundle(site.bundle)["files"][f"wheels/{wheel.name}"]["sha256"] == sha256_of(
            wheel
        )

    def test_with_nothing_but_md5(self, site: Site) -> None:
        site.public.hashes = ("md5",)
        wheel = make_wheel(site.public.packages_dir, "leaf")
        assert site.builds("leaf") == {"leaf": "1.0"}
        assert read_bundle(site.bundle)["files"][f"wheels/{wheel.name}"]["sha256"] == sha256_of(
            wheel
        )
        site.anew()
        site.public.describe(wheel.name, hashes={"md5": "0" * 32})
        make_wheel(site.public.packages_dir, "leaf", padding=1)  # other bytes: not in the cache
        assert site.build("leaf").code == 4

    def test_a_wrong_content_type_is_named(self, site: Site) -> None:
        make_wheel(site.public.packages_dir, "leaf")
        site.public.fault("/simple/*", Fault.change_headers(content_type="text/plain"))
        told = site.build("leaf")
        assert told.code == 4
        assert site.public.url.rstrip("/") in told.err

    def test_metadata_that_lies_is_found_out(self, site: Site) -> None:
        wheel = make_wheel(site.public.packages_dir, "liar", requires=["surprise"])
        honest = b"Metadata-Version: 2.1\nName: liar\nVersion: 1.0\n"
        digest = {"sha256": hashlib.sha256(honest).hexdigest()}
        site.public.describe(wheel.name, core_metadata=digest)
        site.public.fault(f"*{wheel.name}.metadata", Fault.wrong_bytes(honest))
        told = site.build("liar")
        assert told.code == 4
        assert "liar 1.0 requires surprise" in told.err


class TestRefusals:
    """Errors of an index: which index, what it said, what to do; never with the password."""

    @pytest.fixture(autouse=True)
    def _leaf(self, site: Site) -> None:
        make_wheel(site.public.packages_dir, "leaf")

    @pytest.mark.parametrize(
        "code", [401, 404, 503, *(pytest.param(code, marks=pytest.mark.slow) for code in _MORE)]
    )
    @pytest.mark.parametrize("what", ["/simple/*", "*.whl"])
    def test_a_status_names_the_index_and_no_password(
        self, site: Site, code: int, what: str
    ) -> None:
        site.public.username, site.public.password = "kate", "s3cr3t-word"
        site.public.fault(what, Fault.status(code, retry_after="0"))
        script = write_script(site.folder, "leaf")
        url = site.public.url_with_credentials()
        told = call("build", script, "-o", site.bundle, "--no-uv", "--default-index", url)
        is_absent = what == "/simple/*" and code == 404
        assert told.code == (3 if is_absent else 4), told.text
        assert "s3cr3t" not in told.text
        assert "kate:" not in told.text
        assert is_absent or site.public.base in told.err
        assert "leaf was not found" in told.err or str(code) in told.err

    def test_credentials_that_are_lacking_are_asked_for(self, site: Site) -> None:
        site.public.username = "kate"
        told = site.build("leaf")
        assert told.code == 4
        assert f"{site.public.url}" in told.err
        assert "401" in told.err
        assert "UV_INDEX_" in told.err

    def test_a_redirect_to_another_host_takes_no_credentials_there(self, site: Site) -> None:
        site.private.username, site.private.password = "kate", "s3cr3t-word"
        elsewhere = site.public.base.replace("127.0.0.1", "localhost")
        site.private.fault("/simple/*", Fault.redirect(f"{elsewhere}/simple/leaf/"))
        site.private.fault("*", Fault.redirect(f"{elsewhere}/files/leaf-1.0-py3-none-any.whl"))
        script = write_script(site.folder, "leaf")
        url = site.private.url_with_credentials()
        told = call("build", script, "-o", site.bundle, "--no-uv", "--default-index", url)
        assert told.code == 0, told.text
        assert site.public.requests
        assert {request.headers["Authorization"] for request in site.public.requests} == {None}
        assert "s3cr3t-word" not in (site.bundle / "bundle.json").read_text()

    def test_an_index_that_falls_asleep(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("UV_HTTP_TIMEOUT", "1")
        site.public.fault("/simple/*", Fault.trickle(3))
        told = site.build("leaf")
        assert told.code == 4
        assert site.public.url in told.err
