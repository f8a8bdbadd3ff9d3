"""Private indexes on real servers: credentials and certificates of all kinds, and no leaks.

nginx of the distribution serves `simple/` and `wheels/` of a bundle: its static index works on any
web server.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import pytest

from offline_bundle.builder.resolve.uv_process import find_uv
from tests.support.command_line import Told, call, versions, write_script
from tests.support.distributions import make_buildable_sdist, make_wheel, sha256_of
from tests.support.index_server import IndexServer
from tests.support.nginx import PASSWORD, USER, Certificates, Nginx, make_certificates
from tests.support.pool_cases import TunnelProxy
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
FORMS = (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "s3cr3t-word")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the package `top`, which needs `leaf`."""
    folder = tmp_path_factory.mktemp("served")
    make_wheel(folder / "packages", "top", requires=["leaf"])
    make_wheel(folder / "packages", "leaf")
    with IndexServer(folder / "packages") as index, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFLINE_BUNDLE_CACHE", str(folder / "cache"))
        patch.setenv("UV_CACHE_DIR", str(folder / "uv-cache"))
        script = write_script(folder, "top")
        told = call(
            "build", script, "-o", folder / "bundle", "--no-uv", "--default-index", index.url
        )
    assert told.code == 0, told.text
    return folder / "bundle"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def private(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx") / "private", served) as server:
        yield server


class Client:
    """Builds from a server, and looks for secrets in all that this leaves behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "bundle"

    def build(self, *flags: object, tool: str = "", requirement: str = "top") -> Told:
        script = write_script(self.folder, requirement, tool=tool)
        told = call("build", script, "-o", self.bundle, "--no-uv", *flags)
        assert not any(form in told.text for form in FORMS), told.text
        return told

    def builds(self, *flags: object, tool: str = "") -> None:
        told = self.build(*flags, tool=tool)
        assert told.code == 0, told.text
        assert versions(self.bundle) == {"top": "1.0", "leaf": "1.0"}
        for place in (self.bundle, self.folder / "cache"):
            for path in place.rglob("*"):
                content = path.read_bytes() if path.is_file() and path.suffix != ".py" else b""
                assert not any(form.encode() in content for form in FORMS), path


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in (
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "SSL_CLIENT_CERT",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    return Client(tmp_path)


class TestCredentials:
    """All ways that uv knows; ours must know the same, or the files could not be had."""

    def test_none_are_asked_for_by_name(self, client: Client, private: Nginx) -> None:
        told = client.build(
            "--index", f"corp={private.url}simple/", "--default-index", f"{private.url}simple/"
        )
        assert told.code == 4
        assert f"{private.url}simple/" in told.err
        assert "UV_INDEX_CORP_USERNAME" in told.err
        assert "uv auth login" in told.err

    def test_in_the_url(self, client: Client, private: Nginx, served: Path) -> None:
        client.builds("--default-index", f"{private.url.replace('//', f'//{LOGIN}@')}simple/")
        for wheel in (served / "wheels").glob("*.whl"):
            assert sha256_of(client.bundle / "wheels" / wheel.name) == sha256_of(wheel)

    def test_wrong_ones_in_the_url(self, client: Client, private: Nginx) -> None:
        url = private.url.replace("//", f"//{USER}:wr0ng-word@")
        told = client.build("--default-index", f"{url}simple/")
        assert told.code == 4
        assert "wr0ng-word" not in told.text

    def test_in_the_environment(
        self, client: Client, private: Nginx, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("UV_INDEX_CORP_PYPI_USERNAME", USER)
        monkeypatch.setenv("UV_INDEX_CORP_PYPI_PASSWORD", PASSWORD)
        tool = (
            f'[[tool.uv.index]]\nname = "corp-pypi"\nurl = "{private.url}simple/"\ndefault = true'
        )
        client.builds(tool=tool)

    @pytest.mark.parametrize("who", ["", pytest.param(f"{USER}@", marks=pytest.mark.slow)])
    def test_in_netrc(self, client: Client, private: Nginx, own_home: Path, who: str) -> None:
        (own_home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        client.builds("--default-index", f"{private.url.replace('//', f'//{who}')}simple/")

    @pytest.mark.parametrize("who", ["", pytest.param(f"{USER}@", marks=pytest.mark.slow)])
    def test_in_uvs_own_store(self, client: Client, private: Nginx, who: str) -> None:
        login = [
            find_uv(),
            "auth",
            "login",
            f"{private.url}simple/",
            "--username",
            USER,
            "--password",
            "-",
        ]
        subprocess.run(login, input=PASSWORD, text=True, check=True, capture_output=True)
        client.builds("--default-index", f"{private.url.replace('//', f'//{who}')}simple/")

    @pytest.mark.parametrize(
        "service", ["{url}simple/", pytest.param("127.0.0.1:{port}", marks=pytest.mark.slow)]
    )
    def test_in_a_keyring(
        self, client: Client, private: Nginx, service: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A real keyring with its file in the test's home, and the installed program."""
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
        program = Path(sys.executable).with_name("keyring")
        service = service.format(url=private.url, port=private.port)
        subprocess.run(
            [program, "set", service, USER],
            input=PASSWORD,
            text=True,
            check=True,
            capture_output=True,
        )
        url = f"{private.url.replace('//', f'//{USER}@')}simple/"
        assert client.build("--default-index", url).code == 4  # uv is not told to ask it
        monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
        client.builds("--default-index", url)

    def test_of_a_find_links_page(self, client: Client, private: Nginx) -> None:
        """The web server's own listing of the folder, as sites have them."""
        page = f"{private.url.replace('//', f'//{LOGIN}@')}wheels/"
        client.builds("--find-links", page, tool="[tool.uv]\nno-index = true")

    def test_of_a_find_links_page_in_the_script(
        self, client: Client, private: Nginx, own_home: Path
    ) -> None:
        (own_home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        client.builds(tool=f'[tool.uv]\nno-index = true\nfind-links = ["{private.url}wheels/"]')

    def test_of_an_exclusive_index_beside_a_public_one(
        self,
        client: Client,
        private: Nginx,
        index: IndexServer,
        packages: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        make_wheel(packages, "leaf")
        make_wheel(packages, "top", "99.0", requires=["leaf"])
        monkeypatch.setenv("UV_INDEX_OWN_USERNAME", USER)
        monkeypatch.setenv("UV_INDEX_OWN_PASSWORD", PASSWORD)
        tool = f'[[tool.uv.index]]\nname = "own"\nurl = "{private.url}simple/"\nexplicit = true\n'
        client.builds(
            "--default-index", index.url, tool=f'{tool}[tool.uv.sources]\ntop = {{ index = "own" }}'
        )
        assert not any(request.headers["Authorization"] for request in index.requests)

    @pytest.mark.slow
    def test_of_pip(self, client: Client, private: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_INDEX_URL", f"{private.url.replace('//', f'//{LOGIN}@')}simple/")
        client.builds("--resolver", "pip-tools")

    def test_none_for_a_find_links_page(self, client: Client, private: Nginx) -> None:
        told = client.build(
            "--find-links", f"{private.url}wheels/", tool="[tool.uv]\nno-index = true"
        )
        assert told.code == 4
        assert f"authentication failed for {private.url}wheels/" in told.err
        assert "uv auth login" in told.err


class TestCertificates:
    @pytest.fixture(scope="class")
    @staticmethod
    def secure(
        served: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Nginx]:
        folder = tmp_path_factory.mktemp("nginx") / "secure"
        with Nginx(folder, served, has_password=False, certificate=certificates.server) as server:
            yield server

    @pytest.fixture(scope="class")
    @staticmethod
    def mutual(
        served: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Nginx]:
        folder = tmp_path_factory.mktemp("nginx") / "mutual"
        authority = certificates.authority
        with Nginx(
            folder, served, certificate=certificates.server, client_authority=authority
        ) as server:
            yield server

    def test_an_unknown_authority_is_not_trusted(self, client: Client, secure: Nginx) -> None:
        told = client.build("--default-index", f"{secure.url}simple/")
        assert told.code == 4
        assert "SSL_CERT_FILE" in told.err
        assert f"{secure.url}simple/" in told.err

    def test_named_in_a_variable(
        self,
        client: Client,
        secure: Nginx,
        certificates: Certificates,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
        client.builds("--default-index", f"{secure.url}simple/")

    @pytest.mark.slow
    def test_in_a_folder(
        self,
        client: Client,
        secure: Nginx,
        certificates: Certificates,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        require("openssl")
        folder = tmp_path / "trusted"
        folder.mkdir()
        shutil.copy(certificates.authority, folder / "authority.pem")
        subprocess.run(["openssl", "rehash", folder], check=True, capture_output=True)
        monkeypatch.setenv("SSL_CERT_DIR", str(folder))
        client.builds("--default-index", f"{secure.url}simple/")

    @pytest.mark.parametrize(
        "how",
        [
            "flag",
            *(pytest.param(how, marks=pytest.mark.slow) for how in ("variable", "configuration")),
        ],
    )
    def test_a_host_that_is_not_to_be_checked(
        self,
        client: Client,
        secure: Nginx,
        own_home: Path,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
    ) -> None:
        host = f"127.0.0.1:{secure.port}" if how == "variable" else "127.0.0.1"
        if how == "variable":
            monkeypatch.setenv("UV_INSECURE_HOST", host)
        if how == "configuration":
            (own_home / ".config/uv").mkdir(parents=True)
            (own_home / ".config/uv/uv.toml").write_text(f'allow-insecure-host = ["{host}"]\n')
        flags = ("--allow-insecure-host", host) if how == "flag" else ()
        client.builds("--default-index", f"{secure.url}simple/", *flags)

    def test_another_host_is_still_checked(self, client: Client, secure: Nginx) -> None:
        told = client.build(
            "--default-index", f"{secure.url}simple/", "--allow-insecure-host", "localhost"
        )
        assert told.code == 4

    def test_a_clients_own(
        self,
        client: Client,
        mutual: Nginx,
        certificates: Certificates,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With a password on top of it."""
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
        url = f"{mutual.url.replace('//', f'//{LOGIN}@')}simple/"
        assert client.build("--default-index", url).code == 4
        monkeypatch.setenv("SSL_CLIENT_CERT", str(certificates.client))
        client.builds("--default-index", url)

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_clients_own_that_cannot_be_used(
        self,
        client: Client,
        secure: Nginx,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        content: str | None,
    ) -> None:
        if content:
            (tmp_path / "client.pem").write_text(content)
        monkeypatch.setenv("SSL_CLIENT_CERT", str(tmp_path / "client.pem"))
        told = client.build(
            "--default-index", f"{secure.url}simple/", "--allow-insecure-host", "127.0.0.1"
        )
        assert told.code in {1, 4}
        assert "client.pem" in told.err

    @pytest.mark.slow
    def test_of_pip(
        self,
        client: Client,
        mutual: Nginx,
        certificates: Certificates,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PIP_INDEX_URL", f"{mutual.url.replace('//', f'//{LOGIN}@')}simple/")
        monkeypatch.setenv("PIP_CERT", str(certificates.authority))
        monkeypatch.setenv("PIP_CLIENT_CERT", str(certificates.client))
        client.builds("--resolver", "pip-tools")


class CommandLines:
    """Reads the command lines of all processes, as anybody on the machine can, until it is left."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.002):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    content = (process / "cmdline").read_bytes()
                except OSError:
                    continue
                self.seen.add(content.replace(b"\0", b" ").decode("utf-8", "replace"))


@pytest.mark.parametrize("resolver", ["uv", pytest.param("pip-tools", marks=pytest.mark.slow)])
def test_no_process_has_a_password_on_its_command_line(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolver: str
) -> None:
    """Flags, script and variables name indexes with passwords; a build reads them too."""
    make_buildable_sdist(tmp_path / "packages", "top", requires=["leaf"])
    make_wheel(tmp_path / "packages", "leaf")
    with (
        IndexServer(tmp_path / "packages", username=USER, password="s3cr3t-word") as server,
        CommandLines() as lines,
    ):
        url = server.url_with_credentials()
        if resolver == "uv":
            flags: tuple[object, ...] = ("--default-index", url, "--find-links", url)
            tool = f'[[tool.uv.index]]\nname = "own"\nurl = "{url}"'
        else:
            monkeypatch.setenv("PIP_INDEX_URL", url)
            flags, tool = ("--resolver", resolver), ""
        told = client.build(*flags, "--allow-build", "top", tool=tool)
    assert told.code == 0, told.text
    assert any("pip compile" in line or "piptools compile" in line for line in lines.seen)
    assert any(" build --wheel" in line for line in lines.seen)
    assert not [line for line in lines.seen if "s3cr3t-word" in line]


def test_through_a_proxy_and_not(
    client: Client, served: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Nginx(client.folder / "nginx", served, certificate=certificates.server) as server,
        TunnelProxy(None) as proxy,
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        url = f"{server.url.replace('//', f'//{LOGIN}@')}simple/"
        client.builds("--default-index", url)
        assert proxy.requests
        before = len(proxy.requests)
        shutil.rmtree(client.bundle)
        shutil.rmtree(client.folder / "cache")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("UV_NO_CACHE", "1")
        client.builds("--default-index", url)
        assert len(proxy.requests) == before


@pytest.mark.slow
class TestPlaces:
    """Where else an index may be named, as docs/how-to/private-indexes.md shows it."""

    def test_in_uvs_variable(
        self, client: Client, private: Nginx, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("UV_INDEX", f"corp={private.url.replace('//', f'//{LOGIN}@')}simple/")
        client.builds()

    def test_in_uvs_configuration(
        self, client: Client, private: Nginx, own_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (own_home / ".config/uv").mkdir(parents=True)
        (own_home / ".config/uv/uv.toml").write_text(
            f'[[index]]\nname = "corp"\nurl = "{private.url}simple/"\n'
        )
        monkeypatch.setenv("UV_INDEX_CORP_USERNAME", USER)
        monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", PASSWORD)
        client.builds()

    def test_a_bundle_on_this_machine(self, client: Client, served: Path) -> None:
        client.builds("--default-index", (served / "simple").as_uri())

    def test_a_folder_of_wheels(self, client: Client, served: Path) -> None:
        client.builds("--find-links", served / "wheels", tool="[tool.uv]\nno-index = true")

    def test_a_folder_of_wheels_named_from_here_and_with_a_comma(
        self, client: Client, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(served / "wheels", tmp_path / "my wheels, all of them")
        monkeypatch.chdir(tmp_path)
        client.builds("--find-links", "./my wheels, all of them", tool="[tool.uv]\nno-index = true")

    def test_a_script_that_holds_a_password_is_said_to(
        self, client: Client, private: Nginx
    ) -> None:
        url = f"{private.url.replace('//', f'//{LOGIN}@')}simple/"
        told = client.build(tool=f'[[tool.uv.index]]\nurl = "{url}"\ndefault = true')
        assert told.code == 0, told.text
        assert "job.py contains a password" in told.err
