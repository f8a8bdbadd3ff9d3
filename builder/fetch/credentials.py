"""Credentials per index, and redaction of secrets in all output.

Credentials come from an index's URL or from `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`, as for uv;
from netrc, which requests reads; and from other programs (`credential_helpers`) after a server asks
for them. They are sent to the origin of their own index and to no other.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from offline_bundle.wheelhouse.runtime.text import without_logins

_DEFAULT_PORTS = {"http": 80, "https": 443}

_HIDDEN = "****"
_GIT_HELPER = (
    '!f() { printf "username=%s\\npassword=%s\\n"'
    ' "$OFFLINE_BUNDLE_GIT_USER_#" "$OFFLINE_BUNDLE_GIT_PASSWORD_#"; }; f'
)

Login = tuple[str, str]
"""User name and password; either may be empty."""


class Origin(NamedTuple):
    """Scheme, host and port of a URL (RFC 6454)."""

    scheme: str
    host: str
    port: int | None


@dataclass(frozen=True)
class _Index:
    """One index: origin, path, name and credentials."""

    origin: Origin
    path: tuple[str, ...]
    name: str | None
    login: Login | None = field(repr=False)
    url: str = ""
    """Without credentials."""


class Credentials:
    """The credentials of a build's indexes. Its `repr` shows their number only."""

    def __init__(
        self,
        indexes: Iterable[tuple[str | None, str]] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
        find_stored: Callable[[str, str | None], Login | None] | None = None,
        repositories: Iterable[str] = (),
    ) -> None:
        """*indexes* are (name or None, URL) pairs; variables in *environ* win, as in uv.

        *find_stored* returns logins by URL and user name (None: any); slow, and called late.
        *repositories* are URLs of git repositories, with their logins.
        """
        self._indexes = tuple(_read_index(name, url, environ) for name, url in indexes)
        self._repositories = _logins_in(repositories)
        self._secrets = self._secret_patterns()
        self._find_stored = find_stored
        self._looked_up: dict[str, bool] = {}
        self._lock = threading.Lock()

    def for_url(self, url: str) -> Login | None:
        """Return (user name, password) for *url*: its own, or those of its nearest index.

        None: nothing is configured; netrc may still have an entry. A password may be empty, where a
        token is the user name.
        """
        own = _login_in(url)
        if own:
            return own
        index = self._nearest(url, with_login=True)
        return index.login if index else None

    def look_up(self, url: str) -> bool:
        """Look up stored credentials for *url*, so that `for_url` returns them.

        Call it after a server asked for credentials. Thread-safe; each index is looked up once.
        Returns False where there are none.
        """
        if self._find_stored is None or _login_in(url):
            return False
        with self._lock:
            index = self._nearest(url, with_login=False) or _read_index(None, url, {})
            if index.url not in self._looked_up:
                self._looked_up[index.url] = self._add_stored(index)
            return self._looked_up[index.url]

    def _add_stored(self, index: _Index) -> bool:
        user, password = index.login or (None, "")
        if self._find_stored is None or password:
            return False
        login = self._find_stored(index.url, user)
        if login is None:
            return False
        others = (other for other in self._indexes if other != index)
        self._indexes = (replace(index, login=login), *others)
        self._secrets = self._secret_patterns()
        return True

    def _secret_patterns(self) -> tuple[re.Pattern[str], ...]:
        logins = [index.login for index in self._indexes if index.login]
        return _secret_patterns([*logins, *self._repositories.values()])

    def git_variables(self, environ: Mapping[str, str], *urls: str) -> dict[str, str]:
        """Return variables that pass the logins of repositories to git, for their own hosts only.

        *urls* are further repositories. Other users can read the arguments of a process, but not
        its environment.
        """
        repositories = {**self._repositories, **_logins_in(urls)}
        first = int(environ.get("GIT_CONFIG_COUNT") or 0)
        keys = [*repositories, *map(_origin_url, repositories)]  # submodules are elsewhere there
        variables = {"GIT_CONFIG_COUNT": str(first + len(keys))} if keys else {}
        logins = [*repositories.values()] * 2
        for number, (url, (user, password)) in enumerate(zip(keys, logins, strict=True), first):
            variables |= {
                f"GIT_CONFIG_KEY_{number}": f"credential.{url}.helper",
                f"GIT_CONFIG_VALUE_{number}": _GIT_HELPER.replace("#", str(number)),
                f"OFFLINE_BUNDLE_GIT_USER_{number}": user,
                f"OFFLINE_BUNDLE_GIT_PASSWORD_{number}": password,
            }
        return variables

    def advice(self, url: str) -> str:
        """Return a hint where to put credentials for *url*: variables of its index, or netrc."""
        host = origin_of(url).host or "the host"
        index = self._nearest(url, with_login=False)
        netrc = f"add a line `machine {host} login USER password PASSWORD` to ~/.netrc"
        if index and index.name:
            prefix = _variable_prefix(index.name)
            return f"set {prefix}_USERNAME and {prefix}_PASSWORD, run `uv auth login`, or {netrc}"
        return (
            "give the index a name and set UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD, "
            f"run `uv auth login`, or {netrc}"
        )

    def redact(self, text: str) -> str:
        """Remove every known secret, and the user part of every URL, from *text*."""
        text = without_logins(text)
        for pattern in self._secrets:
            text = pattern.sub(_HIDDEN, text)
        return text

    def __repr__(self) -> str:
        """Show no secret."""
        return (
            f"<Credentials for {sum(index.login is not None for index in self._indexes)} indexes>"
        )

    def _nearest(self, url: str, *, with_login: bool) -> _Index | None:
        origin, path = origin_of(url), _segments(url)
        candidates = [
            index
            for index in self._indexes
            if index.origin == origin and (index.login or not with_login)
        ]
        return max(candidates, key=lambda index: _common_segments(index.path, path), default=None)


def origin_of(url: str) -> Origin:
    """Return the origin of *url*; an empty one for an invalid URL."""
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        host = (parts.hostname or "").rstrip(".")
        return Origin(scheme, host, parts.port or _DEFAULT_PORTS.get(scheme))
    except ValueError:
        return Origin("", "", None)


def _logins_in(urls: Iterable[str]) -> dict[str, Login]:
    return {without_logins(url): login for url in urls if (login := _login_in(url))}


def _origin_url(url: str) -> str:
    return "/".join(url.split("/")[:3])


def redact(text: str, credentials: Credentials | None = None) -> str:
    """Remove the secrets of *credentials*, and the user part of every URL, from *text*."""
    return (credentials or Credentials()).redact(text)


def _read_index(name: str | None, url: str, environ: Mapping[str, str]) -> _Index:
    login = _login_in(url)
    if name:
        prefix = _variable_prefix(name)
        user, password = environ.get(f"{prefix}_USERNAME"), environ.get(f"{prefix}_PASSWORD")
        if user is not None or password is not None:
            login = (user or "", password or "")
    return _Index(origin_of(url), _segments(url), name, login, without_logins(url))


def _variable_prefix(name: str) -> str:
    """Return upper case, with "_" for all but ASCII letters and digits, as uv."""
    return "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def _login_in(url: str) -> Login | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if not password and not parts.scheme.removeprefix("git+").startswith("http"):
        return None  # the name of an account, as in ssh://git@host
    return (unquote(user), unquote(password)) if user or password else None


def _segments(url: str) -> tuple[str, ...]:
    try:
        return tuple(segment for segment in urlsplit(url).path.split("/") if segment)
    except ValueError:
        return ()


def _common_segments(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Count the leading path segments that both have."""
    pairs = zip(first, second, strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _secret_patterns(logins: Iterable[Login]) -> tuple[re.Pattern[str], ...]:
    """Match each secret as it is, quoted for a URL, and encoded for a header; the longest first."""
    secrets: set[str] = set()
    for user, password in logins:
        secret = password or user
        header = base64.b64encode(f"{user}:{password}".encode()).decode()
        secrets |= {secret, quote(secret, safe=""), quote(secret), header}
    return tuple(
        _secret_pattern(secret)
        for secret in sorted(secrets, key=lambda text: (-len(text), text))
        if secret
    )


def _secret_pattern(secret: str) -> re.Pattern[str]:
    """Match *secret*; a short one only as a whole word, to keep the text readable."""
    literal = re.escape(secret)
    return re.compile(literal if len(secret) >= 8 else rf"(?<!\w){literal}(?!\w)")
