"""Options that several commands have: signing, trust, output, sizes and durations."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.sizes import parse_size

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _NamedPath(click.Path):
    """A path. An empty text is refused: `Path("")` would be the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        """Return the path."""
        return super().convert(value, param, ctx) if value else self.fail("it is empty", param, ctx)


PATH = _NamedPath(path_type=Path)


class SizeType(click.ParamType[int]):
    """A size of at least *min* bytes, in powers of 1024: `700M`, `4G`, `4GiB`."""

    name = "size"

    def __init__(self, min: int = 0) -> None:  # noqa: A002 - as in click.IntRange
        self.min = min

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        """Parse the text of an option."""
        try:
            size = value if isinstance(value, int) else parse_size(str(value))
        except InputError:
            message = f"{value!r} is not a size: use e.g. 700M or 4G (powers of 1024)"
            return self.fail(message, param, ctx)
        return size if size >= self.min else self.fail(f"{value} is too small", param, ctx)


class DurationType(click.ParamType[timedelta]):
    """A length of time: `90m`, `12h`, `7d`, or `0`."""

    name = "duration"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> timedelta:
        """Parse the text of an option."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhdw])", str(value))
        if match:
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
        if value == "0":
            return timedelta()
        return self.fail(f"{value!r} is not a duration: use e.g. 90m, 12h, 7d or 0", param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
sign_option = click.option(
    "--sign",
    metavar="KEY",
    help="Sign with this OpenSSH key: the file of a private key, or of a public key whose private "
    "key is in ssh-agent.",
)
require_attestations_option = click.option(
    "--require-attestations",
    metavar="NAME|:all:",
    multiple=True,
    help="Require a valid attestation of this package (PEP 740). Repeatable.",
)
trusted_root_option = click.option(
    "--trusted-root",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Verify attestations by this trusted_root.json. Default: the public Sigstore's.",
)


def combined(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    """Return one decorator that adds *options*, in the order of the help."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_signature_options = combined(
    click.option(
        "--allowed-signers",
        type=PATH,
        metavar="FILE",
        help="Require a signature by a key in FILE (see ALLOWED SIGNERS in ssh-keygen(1)).",
    ),
    click.option("--signer", metavar="NAME", help="Require this signer."),
    click.option(
        "--revoked-keys", type=PATH, metavar="FILE", help="Reject signatures by keys in FILE."
    ),
)
rules_options = combined(
    click.option(
        "--policy",
        type=PATH,
        metavar="FILE",
        help="Check the rules in this TOML file: licences, packages, indexes, size.",
    ),
    click.option(
        "--exceptions",
        type=PATH,
        metavar="FILE",
        help="Accept the vulnerabilities in this TOML file (id, reason, until) until they expire.",
    ),
)


def trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a required signature; the command gets *trust*, their policy or None."""

    @functools.wraps(command)
    def wrapped(
        *,
        allowed_signers: Path | None,
        signer: str | None,
        revoked_keys: Path | None,
        **values: Any,  # noqa: ANN401 - as click has them
    ) -> Any:  # noqa: ANN401 - the command's
        from offline_bundle.wheelhouse.runtime.bundle.signatures import SignerPolicy

        if allowed_signers is None and (signer or revoked_keys):
            raise click.UsageError("--signer and --revoked-keys require --allowed-signers")
        trust = SignerPolicy(allowed_signers, signer, revoked_keys) if allowed_signers else None
        return command(trust=trust, **values)

    return _signature_options(wrapped)
