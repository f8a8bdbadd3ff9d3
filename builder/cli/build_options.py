"""The options of `build`, and the request that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from offline_bundle.builder.cli.ci_options import ci_options
from offline_bundle.wheelhouse.cli.kit.options import (
    PATH,
    json_option,
    quiet_option,
    require_attestations_option,
    rules_options,
    sign_option,
    trusted_root_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offline_bundle.builder.headers.model import HeaderRequest
    from offline_bundle.builder.model import BuildRequest


def _complete_platforms(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    del context, parameter
    from offline_bundle.wheelhouse.runtime.python.platforms import platform_names

    return [name for name in platform_names() if name.startswith(incomplete)]


def _repeatable(*names: str, text: str, **settings: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - click's
    return click.option(*names, help=f"{text} Repeatable.", multiple=True, **settings)


_OPTIONS = [
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        type=PATH,
        help="The bundle: a new or empty folder, or a bundle to extend.",
    ),
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
    click.option(
        "--resolver",
        type=click.Choice(["uv", "pip-tools"]),
        default="uv",
        show_default=True,
        help="Resolver. pip-tools uses pip's configuration only, and supports this machine only.",
    ),
    _repeatable(
        "--index",
        "indexes",
        metavar="[NAME=]URL",
        text="An additional index, searched before the default one.",
    ),
    click.option("--default-index", metavar="URL", help="The index in place of the public one."),
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
        "--settings",
        metavar="FILE",
        type=PATH,
        help="Include these settings (TOML): defaults for commands that use the bundle.",
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
        text="Include a file or folder of data; scripts find it in the folder OFFLINE_BUNDLE_DATA.",
    ),
    _repeatable("--constraint", "constraints", metavar="FILE", type=PATH, text="Constraints file."),
    _repeatable(
        "--allow-build",
        metavar="NAME|:all:",
        text="Build this package from source, which runs its code here.",
    ),
    click.option(
        "--format",
        "formats",
        type=click.Choice(["index", "cache", "venv", "image"]),
        multiple=True,
        help="Extra formats to include. cache: a filled UV_CACHE_DIR for one version of uv; venv: "
        "ready environments; image: each of them as one SquashFS file. The index is always "
        "included. Default: those of the bundle. Repeatable.",
    ),
    click.option(
        "--uv-version",
        metavar="V",
        help="Version of uv to include for the nodes. Default: the one that resolves.",
    ),
    click.option("--no-uv", is_flag=True, help="Include no uv."),
    click.option(
        "--with-python/--no-python",
        default=False,
        help="Include an interpreter for each target (python-build-standalone, as in uv).  "
        "[default: --no-python]",
    ),
    click.option(
        "--no-bytecode",
        is_flag=True,
        help="Include no compiled bytecode: each node compiles what its jobs import.",
    ),
    click.option(
        "--audit",
        is_flag=True,
        help="Check for known vulnerabilities: those that the indexes list in their JSON API.",
    ),
    click.option(
        "--osv-server",
        metavar="URL",
        help="Check for known vulnerabilities: those that this server lists, by the API of OSV.",
    ),
    click.option(
        "--attestations",
        is_flag=True,
        help="Fetch the attestations that the indexes name, and verify them (PEP 740).",
    ),
    require_attestations_option,
    trusted_root_option,
    rules_options,
    ci_options,
    sign_option,
    json_option,
    quiet_option,
    click.option("-v", "--verbose", is_flag=True, help="List the packages too."),
]


def build_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add all options of `build`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_request(  # noqa: PLR0913 - one parameter per option
    *,
    scripts: tuple[Path, ...],
    output: Path,
    python_versions: tuple[str, ...],
    platforms: tuple[str, ...],
    nodes: tuple[Path, ...],
    resolver: Literal["uv", "pip-tools"],
    indexes: tuple[str, ...],
    default_index: str | None,
    index_strategy: str | None,
    find_links: tuple[str, ...],
    insecure_hosts: tuple[str, ...],
    exclude_newer: str | None,
    constraints: tuple[Path, ...],
    requirements: tuple[Path, ...],
    project: Path | None,
    groups: tuple[str, ...],
    pylock: Path | None,
    settings: Path | None,
    strict_imports: bool,
    include: tuple[str, ...],
    allow_build: tuple[str, ...],
    formats: tuple[str, ...],
    uv_version: str | None,
    no_uv: bool,
    with_python: bool,
    no_bytecode: bool,
    is_locked: bool,
    audit: bool,
    osv_server: str | None,
    attestations: bool,
    require_attestations: tuple[str, ...],
    trusted_root: Path | None,
    policy: Path | None,
    exceptions: Path | None,
    sign: str | None,
) -> BuildRequest:
    """Return the request of the options; raise InputError for a combination that is not valid."""
    from offline_bundle.builder.model import BuildRequest, ReviewOptions
    from offline_bundle.builder.resolve.model import ResolveOptions
    from offline_bundle.builder.resolve.uv_process import uv_version_here
    from offline_bundle.wheelhouse.derived.package_names import ALL, read_names
    from offline_bundle.wheelhouse.signing import signing_with

    _check_options(uv_version, nodes, platforms, constraints, no_uv=no_uv)
    header = _header_request(requirements, project, groups, pylock)
    return BuildRequest(
        scripts=scripts,
        output=output,
        python_versions=python_versions,
        platforms=platforms,
        nodes=nodes,
        options=ResolveOptions(
            indexes=indexes,
            default_index=default_index,
            index_strategy=index_strategy,
            find_links=find_links,
            insecure_hosts=insecure_hosts,
            exclude_newer=exclude_newer,
            constraints=constraints,
            allow_build=read_names(allow_build),
        ),
        resolver=resolver,
        uv_version=None if no_uv else uv_version or uv_version_here(),
        is_uv_default=uv_version is None,
        with_python=with_python,
        with_bytecode=not no_bytecode,
        is_locked=is_locked,
        formats=formats,
        header=header,
        settings=_checked_settings(settings),
        strict_imports=strict_imports,
        include=include,
        review=ReviewOptions(
            audit=audit,
            osv_server=osv_server,
            attested=frozenset({ALL} if attestations else ()),
            required=read_names(require_attestations),
            policy=policy,
            exceptions=exceptions,
            trusted_root=trusted_root,
        ),
        sign=signing_with(sign) if sign else None,
    )


def _header_request(
    requirements: tuple[Path, ...],
    project: Path | None,
    groups: tuple[str, ...],
    pylock: Path | None,
) -> HeaderRequest:
    from offline_bundle.builder.headers.model import HeaderRequest
    from offline_bundle.wheelhouse.runtime.errors import InputError

    names = {"--requirements": requirements, "--project": project, "--pylock": pylock}
    given = [name for name, value in names.items() if value]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} exclude each other", hint="give one of them")
    if groups and not project:
        raise InputError("--group is for a project", hint="name it with --project")
    return HeaderRequest(requirements, project, groups, pylock)


def _checked_settings(path: Path | None) -> Path | None:
    from offline_bundle.wheelhouse.cli.kit.settings import read_bundle_settings

    if path:
        read_bundle_settings(path)
    return path


def _check_options(
    uv_version: str | None,
    nodes: tuple[Path, ...],
    platforms: tuple[str, ...],
    constraints: tuple[Path, ...],
    *,
    no_uv: bool,
) -> None:
    from offline_bundle.wheelhouse.runtime.errors import InputError

    if uv_version and no_uv:
        raise InputError("--uv-version and --no-uv exclude each other", hint="give one of them")
    if nodes and platforms:
        raise InputError(
            "--node and --python-platform exclude each other",
            hint="leave out --python-platform: node.json has the platform; or build twice into "
            "the same folder",
        )
    missing = [f"--constraint {path}: no such file" for path in constraints if not path.is_file()]
    if missing:
        raise InputError(
            "a file named on the command line is missing", problems=missing, hint="check its path"
        )
