"""The command `build`, also installed as `build-offline-bundle`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from offline_bundle.builder.cli.ci_options import ci_options
from offline_bundle.wheelhouse.cli.kit.options import (
    PATH,
    json_option,
    quiet_option,
    rules_options,
    sign_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offline_bundle.builder.model import BuildReport, BuildRequest
    from offline_bundle.wheelhouse.derived.audit_result import Audit


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
    _repeatable("--constraint", "constraints", metavar="FILE", type=PATH, text="Constraints file."),
    _repeatable(
        "--allow-build",
        metavar="NAME|:all:",
        text="Build this package from source, which runs its code here.",
    ),
    click.option(
        "--format",
        "formats",
        type=click.Choice(["index", "cache", "venv"]),
        multiple=True,
        help="Extra formats to include. cache: a filled UV_CACHE_DIR for one version of uv; venv: "
        "ready environments. The index is always included. Default: those of the bundle. "
        "Repeatable.",
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
    rules_options,
    ci_options,
    sign_option,
    json_option,
    quiet_option,
    click.option("-v", "--verbose", is_flag=True, help="List the packages too."),
]


def _options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("build")
@click.argument("scripts", nargs=-1, required=True, metavar="SCRIPT...", type=PATH)
@_options
def build_command(
    *,
    is_check: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **values: Any,  # noqa: ANN401 - the parameters of `_request`
) -> int:
    """Build a bundle from SCRIPTs with inline dependencies (PEP 723).

    Resolve, fetch and verify everything that the scripts need, and write it to DIR. They run from
    there without a network: `offline-bundle run SCRIPT --bundle DIR`, or
    `python3 DIR/run.py SCRIPT`.
    """
    from offline_bundle.builder.cli.progress import build_progress
    from offline_bundle.builder.resolve.uv_process import find_uv

    request = _request(**values)
    started = time.monotonic()
    if is_check:
        from offline_bundle.builder.check import check
        from offline_bundle.builder.cli.ci_options import print_check

        with build_progress(is_quiet=quiet or as_json) as progress:
            result = check(request, find_uv(), progress)
        return print_check(result, as_json=as_json, is_quiet=quiet)
    from offline_bundle.builder.pipeline import build

    with build_progress(is_quiet=quiet or as_json) as progress:
        report = build(request, find_uv(), progress)
    if as_json:
        click.echo(json.dumps(_document(report), indent=1))
    elif not quiet:
        _print_report(report, time.monotonic() - started, is_verbose=verbose)
    return 0


def _request(  # noqa: PLR0913 - one parameter per option
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
    allow_build: tuple[str, ...],
    formats: tuple[str, ...],
    uv_version: str | None,
    no_uv: bool,
    with_python: bool,
    no_bytecode: bool,
    is_locked: bool,
    audit: bool,
    osv_server: str | None,
    policy: Path | None,
    exceptions: Path | None,
    sign: str | None,
) -> BuildRequest:
    """Return the request of the options; raise InputError for a combination that is not valid."""
    from packaging.utils import canonicalize_name

    from offline_bundle.builder.model import BuildRequest, ReviewOptions
    from offline_bundle.builder.resolve.model import ResolveOptions
    from offline_bundle.builder.resolve.uv_process import uv_version_here
    from offline_bundle.wheelhouse.signing import signing_with

    _check_options(uv_version, nodes, platforms, constraints, no_uv=no_uv)
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
            allow_build=frozenset(
                name if name == ":all:" else canonicalize_name(name) for name in allow_build
            ),
        ),
        resolver=resolver,
        uv_version=None if no_uv else uv_version or uv_version_here(),
        is_uv_default=uv_version is None,
        with_python=with_python,
        with_bytecode=not no_bytecode,
        is_locked=is_locked,
        formats=formats,
        review=ReviewOptions(audit, osv_server, policy, exceptions),
        sign=signing_with(sign) if sign else None,
    )


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


def _print_report(report: BuildReport, seconds: float, *, is_verbose: bool) -> None:
    from offline_bundle.wheelhouse.runtime.sizes import count, format_size
    from offline_bundle.wheelhouse.runtime.text import printable_lines

    for note in (*report.notes, *_audit_notes(report.audit)):
        click.secho(printable_lines(f"note: {note}"), fg="yellow", err=True)
    lines = []
    for lock in report.locks:
        script, target = lock.resolution.script, lock.resolution.target
        packages = count(len(lock.wheels), "package")
        python = f"Python {target.python} on {target.platform}"
        lines.append(f"{script.path.name} for {python}: {packages}")
        lines += [
            f"  {wheel.name} {wheel.version}  {wheel.filename}  {format_size(wheel.size)}"
            for wheel in (lock.wheels if is_verbose else ())
        ]
    size = f"{count(report.files, 'file')}, {format_size(report.size)}"
    if not report.changed:
        lines.append(f"{report.output} is up to date ({size}).")
    else:
        path = report.locks[0].resolution.script.path
        lines += [
            f"{report.output}: {size}; {_work(report)}, {seconds:.1f} s.",
            f"Run it:  offline-bundle run {path} --bundle {report.output}",
            f"or without installing offline-bundle:  python3 {report.output / 'run.py'} {path}",
        ]
    click.echo(printable_lines("\n".join(lines)), err=True)


def _audit_notes(audit: Audit | None) -> list[str]:
    """Return what an audit found; if nothing could be checked, that is not the same."""
    from offline_bundle.wheelhouse.audit.render import notes

    if audit is None:
        return []
    return [*notes(audit), f"audit of {audit.summary}"]


def _work(report: BuildReport) -> str:
    from offline_bundle.wheelhouse.runtime.sizes import count, format_size

    fetched = f"{count(report.fetched, 'file')} fetched ({format_size(report.fetched_size)})"
    parts = [fetched] if report.fetched or not report.from_cache else []
    parts += [f"{count(report.from_cache, 'file')} from the cache"] if report.from_cache else []
    parts += [f"{count(len(report.built), 'wheel')} built"] if report.built else []
    return ", ".join(parts)


def _document(report: BuildReport) -> dict[str, object]:
    from offline_bundle.wheelhouse.audit.render import to_json

    return {
        "bundle": str(report.output),
        "changed": report.changed,
        "files": report.files,
        "size": report.size,
        "fetched": {"files": report.fetched, "size": report.fetched_size},
        "built": list(report.built),
        "locks": [
            {
                "script": lock.resolution.script.name,
                "target": lock.resolution.target.name,
                "packages": {wheel.name: wheel.version for wheel in lock.wheels},
            }
            for lock in report.locks
        ],
        "notes": list(report.notes),
        **({"audit": to_json(report.audit)} if report.audit else {}),
    }
