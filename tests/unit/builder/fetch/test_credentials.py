from __future__ import annotations

import base64

import pytest

from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.wheelhouse.runtime.text import without_logins

INDEX = "https://alice:s3cret-word@pypi.corp.example/team/simple/"


def credentials(*indexes: tuple[str | None, str], **environ: str) -> Credentials:
    return Credentials(indexes, environ)


class TestForUrl:
    def test_url_credentials_serve_the_whole_host(self) -> None:
        known = credentials((None, INDEX))
        assert known.for_url("https://pypi.corp.example/files/a.whl") == ("alice", "s3cret-word")

    def test_percent_escapes_are_decoded(self) -> None:
        known = credentials((None, "https://a%40b:p%3Aw%2F%25@host.example/"))
        assert known.for_url("https://host.example/x") == ("a@b", "p:w/%")

    @pytest.mark.parametrize(
        "url",
        [
            "http://pypi.corp.example/team/a.whl",
            "https://pypi.corp.example:8443/team/a.whl",
            "https://corp.example/team/a.whl",
            "https://pypi.corp.example.evil.example/team/a.whl",
            "https://evil.example/https://pypi.corp.example/team/",
            "https://[broken/",
            "no url",
        ],
    )
    def test_no_other_origin_gets_them(self, url: str) -> None:
        assert credentials((None, INDEX)).for_url(url) is None

    @pytest.mark.parametrize(
        "url",
        [
            "https://pypi.corp.example:443/a",
            "https://PYPI.corp.example./a",
            "HTTPS://pypi.corp.example/a",
        ],
    )
    def test_the_same_origin_written_otherwise(self, url: str) -> None:
        assert credentials((None, INDEX)).for_url(url) == ("alice", "s3cret-word")

    def test_the_nearest_path_wins(self) -> None:
        known = credentials(
            (None, "https://one:1@h.example/pypi/one/simple/"),
            (None, "https://two:2@h.example/pypi/two/simple/"),
        )
        assert known.for_url("https://h.example/pypi/two/packages/a.whl") == ("two", "2")
        assert known.for_url("https://h.example/pypi/one/packages/a.whl") == ("one", "1")

    def test_a_path_segment_is_compared_whole(self) -> None:
        known = credentials(
            (None, "https://a:1@h.example/team/"), (None, "https://b:2@h.example/team-b/")
        )
        assert known.for_url("https://h.example/team-b/x.whl") == ("b", "2")

    def test_environment_of_a_named_index_wins_over_its_url(self) -> None:
        known = credentials(
            ("my-corp.index", INDEX),
            UV_INDEX_MY_CORP_INDEX_USERNAME="bob",
            UV_INDEX_MY_CORP_INDEX_PASSWORD="other",
        )
        assert known.for_url("https://pypi.corp.example/x") == ("bob", "other")

    def test_password_alone(self) -> None:
        known = credentials(("corp", "https://h.example/"), UV_INDEX_CORP_PASSWORD="tok")
        assert known.for_url("https://h.example/x") == ("", "tok")

    def test_token_as_user_name(self) -> None:
        assert credentials((None, "https://tok@h.example/")).for_url("https://h.example/x") == (
            "tok",
            "",
        )

    def test_a_url_of_its_own_comes_first(self) -> None:
        assert credentials((None, INDEX)).for_url("https://eve:x@pypi.corp.example/y") == (
            "eve",
            "x",
        )

    def test_nothing_configured(self) -> None:
        assert credentials((None, "https://h.example/")).for_url("https://h.example/x") is None


class TestAdvice:
    def test_names_the_variables_of_the_index(self) -> None:
        advice = credentials(("corp-pypi", "https://h.example/simple/")).advice(
            "https://h.example/files/x.whl"
        )
        assert "UV_INDEX_CORP_PYPI_USERNAME" in advice
        assert "UV_INDEX_CORP_PYPI_PASSWORD" in advice
        assert "machine h.example" in advice

    def test_without_a_name(self) -> None:
        assert "UV_INDEX_<NAME>_USERNAME" in credentials().advice("https://h.example/files/x.whl")


class TestWithoutCredentials:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("https://u:p@h.example/simple/", "https://h.example/simple/"),
            ("https://u@h.example:8443/x?y=a@b#z@", "https://h.example:8443/x?y=a@b#z@"),
            ("https://u:p@[::1]:8080/x", "https://[::1]:8080/x"),
            ("https://[::1]:8080/x@y", "https://[::1]:8080/x@y"),
            ("https://h.example:8080/x@y", "https://h.example:8080/x@y"),
            ("https://h.example:8080", "https://h.example:8080"),
            ("https://u:p@ss@h.example/", "https://h.example/"),
            ("https://u:p/a@ss@h.example/x", "https://h.example/x"),
            ("https://u:p%40@h.example", "https://h.example"),
            ("https://@h.example/", "https://h.example/"),
            ("https://:p@h.example/", "https://h.example/"),
            ("//u:p@h.example/x", "//h.example/x"),
            ("git+https://tok@h.example/r.git@v1", "git+https://h.example/r.git@v1"),
            ("git+ssh://git@h.example/r.git@v1", "git+ssh://git@h.example/r.git@v1"),
            ("ssh://git:pw@h.example/r.git", "ssh://git@h.example/r.git"),
            ("git+ssh://git:a/b@c@h.example/r.git", "git+ssh://git@h.example/r.git"),
            ("HTTPS://U:P@H.example/", "HTTPS://H.example/"),
            ("file:///a/b@c", "file:///a/b@c"),
            ("/plain/path@1", "/plain/path@1"),
            ("", ""),
        ],
    )
    def test_drops_the_user_part_only(self, url: str, expected: str) -> None:
        assert without_logins(url) == expected


class TestRedact:
    def test_urls_in_any_text(self) -> None:
        text = "error: Failed: `https://u:p@h.example/simple/a/`, and 'http://t@i.example' (at x@y)"
        expected = "error: Failed: `https://h.example/simple/a/`, and 'http://i.example' (at x@y)"
        assert redact(text) == expected

    def test_two_urls_without_a_space_between(self) -> None:
        assert redact('["https://a:b@h/x","https://c:d@i/y"]') == '["https://h/x","https://i/y"]'

    @pytest.mark.parametrize(
        "form", ["p@ss/w%rd-1", "p%40ss%2Fw%25rd-1", base64.b64encode(b"al:p@ss/w%rd-1").decode()]
    )
    def test_known_secrets_in_every_form(self, form: str) -> None:
        known = credentials((None, "https://al:p%40ss%2Fw%25rd-1@h.example/"))
        assert redact(f"Authorization: Basic {form}!", known) == "Authorization: Basic ****!"

    def test_a_token_as_user_name_is_a_secret(self) -> None:
        assert (
            redact("pypi-token-abc", credentials((None, "https://pypi-token-abc@h.example/")))
            == "****"
        )

    def test_a_short_secret_leaves_words_whole(self) -> None:
        assert (
            redact("a canal: a", credentials((None, "https://u:a@h.example/")))
            == "**** canal: ****"
        )

    def test_secrets_from_the_environment(self) -> None:
        known = credentials(
            ("c", "https://h.example/"), UV_INDEX_C_USERNAME="u", UV_INDEX_C_PASSWORD="long-secret"
        )
        assert redact("xlong-secretx", known) == "x****x"

    def test_is_idempotent(self) -> None:
        known = credentials((None, INDEX))
        once = redact(f"{INDEX} s3cret-word", known)
        assert redact(once, known) == once == "https://pypi.corp.example/team/simple/ ****"


def test_repr_shows_no_secret() -> None:
    known = credentials((None, INDEX))
    assert repr(known) == "<Credentials for 1 indexes>"
    assert "s3cret" not in f"{known!r} {known!s} {known._indexes!r}"
