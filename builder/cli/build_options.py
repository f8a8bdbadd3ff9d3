"""The options of `build`, and the request that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_bundle.builder.cli.ci_options import ci_options
from offline_bundle.wheelhouse.cli.kit.options import (
    PATH,
    combined,
    json_option,
    quiet_option,
    require_attestations_option,
    rules_options,
    sign_option,
    trusted_root_option,
)
from offline_bundle.wheelhouse.cli.kit.sections import COMMON, parameters_of

if TYPE_CHECKING:
    from offline_bundle.builder.model import BuildRequest

_T = TypeVar("_T")


def _complete_platforms(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    from offline_bundle.wheelhouse.runtime.python.platforms import platform_names

    return [name for name in platform_names() if name.startswith(incomplete)]


def _repeatable(*names: str, text: str, **settings: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - click's
    return click.option(*names, help=f"{text} Repeatable.", multiple=True, **settings)


_OPTIONS: dict[str, list[Callable[[Any], Any]]] = {
    COMMON: [
        click.option(
            "-o",
            "--output",
            required=True,
            metavar="DIR",
            type=PATH,
            help="The bundle: a new or empty folder, or a bundle to extend.",
        ),
        sign_option,
        json_option,
        quiet_option,
        click.option("-v", "--verbose", is_flag=True, help="List the packages too."),
    ],
    "Nodes": [
        _repeatable(
            "--python-version",
            "python_versions",
            metavar="3.12",
            text="Python of the nodes. Default: chosen from the script's requires-python.",
        ),
        _repeatable(
            "--python-platform",
            "platforms",
            metavar="PLATFORM",
            text="Platform of the nodes as uv names it, such as x86_64-manylinux_2_28. "
            "Default: this machine.",
            shell_complete=_complete_platforms,
        ),
        _repeatable(
            "--node",
            "nodes",
            metavar="node.json",
            type=PATH,
            text="Build for this node: the output of `offline-bundle probe` on it.",
        ),
    ],
    "Scripts and data": [
        _repeatable(
            "--requirements",
            metavar="FILE",
            type=PATH,
            text="Requirements file, for scripts without metadata.",
        ),
        click.option(
            "--project",
            metavar="FILE",
            type=PATH,
            help="pyproject.toml, for scripts without metadata; its uv.lock selects the versions.",
        ),
        _repeatable("--group", "groups", metavar="NAME", text="Dependency group of --project."),
        click.option(
            "--pylock",
            metavar="FILE",
            type=PATH,
            help="Lock file (PEP 751), for scripts without metadata.",
        ),
        click.option(
            "--strict-imports",
            is_flag=True,
            help="Fail for imports that neither the header's packages nor files beside the script "
            "provide.",
        ),
        _repeatable(
            "--include",
            metavar="[NAME=]PATH",
            text="Include a file or folder of data; scripts find it in the folder "
            "OFFLINE_BUNDLE_DATA.",
        ),
    ],
    "Packages": [
        click.option(
            "--resolver",
            type=click.Choice(["uv", "pip-tools"]),
            default="uv",
            show_default=True,
            help="Resolver. pip-tools uses pip's configuration only, and supports this machine "
            "only.",
        ),
        _repeatable(
            "--index",
            "indexes",
            metavar="[NAME=]URL",
            text="An additional index, searched before the default one.",
        ),
        click.option(
            "--default-index", metavar="URL", help="The index in place of the public one."
        ),
        click.option(
            "--index-strategy",
            type=click.Choice(["first-index", "unsafe-first-match", "unsafe-best-match"]),
            help="Indexes that a package may come from. Default: only the first that has it.",
        ),
        _repeatable("--find-links", metavar="LOCATION", text="A folder or page of files."),
        _repeatable(
            "--allow-insecure-host",
            "insecure_hosts",
            metavar="HOST",
            text="Do not verify the certificate of this host.",
        ),
        click.option(
            "--exclude-newer", metavar="DATE", help="Ignore files uploaded after this date or age."
        ),
        _repeatable(
            "--constraint", "constraints", metavar="FILE", type=PATH, text="Constraints file."
        ),
        _repeatable(
            "--allow-build",
            metavar="NAME|:all:",
            text="Build this package from source, which runs its code here.",
        ),
    ],
    "Contents of the bundle": [
        click.option(
            "--format",
            "formats",
            type=click.Choice(["index", "cache", "venv", "image"]),
            multiple=True,
            help="Extra formats to include. cache: a filled UV_CACHE_DIR for one version of uv; "
            "venv: ready environments; image: each of them as one SquashFS file. The index is "
            "always included. Default: those of the bundle. Repeatable.",
        ),
        click.option(
            "--with-python/--no-python",
            default=False,
            help="Include an interpreter for each target (python-build-standalone, as in uv).  "
            "[default: --no-python]",
        ),
        click.option(
            "--uv-version",
            metavar="V",
            help="Version of uv to include for the nodes. Default: the one that resolves.",
        ),
        click.option("--no-uv", is_flag=True, help="Include no uv."),
        click.option(
            "--no-bytecode",
            is_flag=True,
            help="Include no compiled bytecode: each node compiles what its jobs import.",
        ),
        click.option(
            "--settings",
            metavar="FILE",
            type=PATH,
            help="Include these settings (TOML): defaults for commands that use the bundle.",
        ),
    ],
    "Review": [
        click.option(
            "--audit",
            is_flag=True,
            help="Check for known vulnerabilities: those that the indexes list in their JSON API.",
        ),
        click.option(
            "--osv-server",
            metavar="URL",
            help="Check for known vulnerabilities: those that this server lists, by the API of "
            "OSV.",
        ),
        rules_options,
        click.option(
            "--attestations",
            is_flag=True,
            help="Fetch the attestations that the indexes name, and verify them (PEP 740).",
        ),
        require_attestations_option,
        trusted_root_option,
    ],
    "Locks and CI": [
        ci_options,
    ],
}
"""Title in the help -> its options."""


SECTIONS = {
    str(parameter.name): title
    for title, options in _OPTIONS.items()
    for parameter in parameters_of(options)
}
"""Parameter -> title of its section in the help."""


build_options = combined(*(option for options in _OPTIONS.values() for option in options))
"""Adds all options of `build`."""


def make_request(values: Mapping[str, Any]) -> BuildRequest:
    """Return the request of the options of `build`, by the names of their parameters.

    Raises InputError for a combination that is not valid.
    """
    from offline_bundle.builder.headers.model import HeaderRequest
    from offline_bundle.builder.model import BuildRequest, ReviewOptions
    from offline_bundle.builder.resolve.model import ResolveOptions
    from offline_bundle.builder.resolve.uv_process import uv_version_here
    from offline_bundle.wheelhouse.cli.kit.settings import read_bundle_settings
    from offline_bundle.wheelhouse.derived.package_names import ALL, read_names
    from offline_bundle.wheelhouse.signing import signing_with

    _check_options(values)
    if values["settings"]:
        read_bundle_settings(values["settings"])
    values = {
        **values,
        "allow_build": read_names(values["allow_build"]),
        "attested": frozenset({ALL} if values["attestations"] else ()),
        "required": read_names(values["require_attestations"]),
        "is_uv_default": values["uv_version"] is None,
        "uv_version": None if values["no_uv"] else values["uv_version"] or uv_version_here(),
        "with_bytecode": not values["no_bytecode"],
        "sign": signing_with(values["sign"]) if values["sign"] else None,
    }
    parts = {
        "options": _call(ResolveOptions, values),
        "header": _call(HeaderRequest, values),
        "review": _call(ReviewOptions, values),
    }
    return _call(BuildRequest, {**values, **parts})


def _call(kind: Callable[..., _T], values: Mapping[str, Any]) -> _T:
    """Return a *kind* of those *values* that it has parameters for."""
    return kind(**{name: values[name] for name in signature(kind).parameters if name in values})


def _check_options(values: Mapping[str, Any]) -> None:
    from offline_bundle.wheelhouse.runtime.errors import InputError

    headers = [name for name in ("requirements", "project", "pylock") if values[name]]
    if len(headers) > 1:
        given = " and ".join(f"--{name}" for name in headers)
        raise InputError(f"{given} exclude each other", hint="give one of them")
    if values["groups"] and not values["project"]:
        raise InputError("--group requires --project", hint="name the project's pyproject.toml")
    if values["uv_version"] and values["no_uv"]:
        raise InputError("--uv-version and --no-uv exclude each other", hint="give one of them")
    if values["nodes"] and values["platforms"]:
        raise InputError(
            "--node and --python-platform exclude each other",
            hint="leave out --python-platform: node.json has the platform; or build twice into "
            "the same folder",
        )
    server = values["osv_server"]
    if server is not None and not server.startswith(("https://", "http://")):
        hint = "write it as https://osv.example"
        raise InputError(f"--osv-server {server}: not a URL of HTTP", hint=hint)
    if missing := _missing_files(values):
        raise InputError(
            "a file named on the command line is missing",
            problems=missing,
            hint="check its path; a URL begins with https://",
        )


def _missing_files(values: Mapping[str, Any]) -> list[str]:
    """Return a line for each file or folder of packages that does not exist."""
    from offline_bundle.builder.resolve.settings.uv_settings import split_index

    indexes = [("--index", split_index(text)[1]) for text in values["indexes"]]
    if values["default_index"] is not None:
        indexes.append(("--default-index", values["default_index"]))
    folders = [*indexes, *(("--find-links", text) for text in values["find_links"])]
    return [
        *(f"--constraint {p}: no such file" for p in values["constraints"] if not p.is_file()),
        *(
            f"{option} {text}: no such folder"
            for option, text in folders
            if not text or ("://" not in text and not Path(text).exists())
        ),
    ]
