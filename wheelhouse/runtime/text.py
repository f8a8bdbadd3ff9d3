"""Untrusted text in messages, and URLs without logins."""

import re

_LONGEST_SHOWN = 120
_LONGEST_LINE = 200
# The user part of a URL ends at the last "@" of the authority (RFC 3986, 3.2.1). The second
# alternative: a password with an unescaped "/", "?" or "#": an invalid URL, but messages quote it.
_USERINFO = re.compile(
    r"""(?P<scheme>\b[a-z][a-z0-9+.-]*:)?(?P<slashes>//)
    (?: [^\s/?\#"'<>]*@ | (?!\[)[^\s/?\#"'<>@:]+:(?!\d{1,5}(?!\w))[^\s"'<>]*@ )""",
    re.IGNORECASE | re.VERBOSE,
)
_SSH_USER = re.compile(r"((?:git\+)?ssh://[\w.-]+)(?::.*)?@", re.IGNORECASE | re.DOTALL)


def without_logins(text: str) -> str:
    """Drop the user part of each URL in *text*; keep the user of `ssh://git@`: the account."""
    return _USERINFO.sub(_keep_ssh_user, text)


def _keep_ssh_user(match: "re.Match[str]") -> str:
    account = _SSH_USER.fullmatch(match.group())
    if account:
        return f"{account[1]}@"
    return f"{match['scheme'] or ''}{match['slashes']}"


def printable(text: str) -> str:
    """Return *text* with control characters escaped, safe to print on a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Return *text* as one printable line of at most 200 characters."""
    line = " ".join(text[: 10 * _LONGEST_LINE].split())
    line = "".join(character if character.isprintable() else " " for character in line)
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


def printable_lines(text: str) -> str:
    """Return *text* with each of its lines printable."""
    return "\n".join(map(printable, text.split("\n")))


def shown(text: str) -> str:
    """Return untrusted text quoted, escaped and cut, for messages."""
    return ascii(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!a}..."
