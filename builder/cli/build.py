"""The command `build` (also installed as `build-offline-bundle`): parse, call `offline_bundle.builder.pipeline.build`, render."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from offline_bundle.builder.cli.ci_options import ci_options
from offline_bundle.wheelhouse.cli.options import sign_option

if TYPE_CHECKING:
    from offline_bundle.builder.model import BuildReport


def _complete_platforms(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    del context, parameter
    from offline_bundle.wheelhouse.runtime.platforms import platform_names

    return [name for name in platform_names() if name.startswith(incomplete)]


@click.command("build")
@click.argument(
    "scripts", nargs=-1, required=True, metavar="SCRIPT...", type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The bundle: a new or empty folder, or a bundle to extend.",
)
@click.option(
    "--python-version",
    "python_versions",
    multiple=True,
    metavar="3.12",
    help="Python of the nodes; repeatable. Default: by the script's requires-python.",
)
@click.option(
    "--python-platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    help="Platform of the nodes in uv's words, such as x86_64-manylinux_2_28; repeatable. Default: this machine.",
    shell_complete=_complete_platforms,
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="node.json",
    type=click.Path(path_type=Path),
    help="Build for exactly this node, as its `offline-bundle probe` described it; repeatable.",
)
@click.option(
    "--resolver",
    type=click.Choice(["uv", "pip-tools"]),
    default="uv",
    show_default=True,
    help="What resolves. pip-tools heeds pip's configuration alone, and serves this machine only.",
)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="[NAME=]URL",
    help="A further index, before the default one; repeatable.",
)
@click.option("--default-index", metavar="URL", help="The index instead of the public one.")
@click.option(
    "--index-strategy",
    type=click.Choice(["first-index", "unsafe-first-match", "unsafe-best-match"]),
    help="Which of several indexes a package may come from. Default: only the first that has it.",
)
@click.option(
    "--find-links", multiple=True, metavar="PLACE", help="A folder or page of files; repeatable."
)
@click.option(
    "--allow-insecure-host",
    "insecure_hosts",
    multiple=True,
    metavar="HOST",
    help="Do not check the certificate of this host; repeatable.",
)
@click.option(
    "--exclude-newer", metavar="DATE", help="Ignore files uploaded after this date or age."
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A constraints file; repeatable.",
)
@click.option(
    "--allow-build",
    multiple=True,
    metavar="NAME|:all:",
    help="Build this package from source, which runs its code here; repeatable.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["index", "cache", "venv"]),
    multiple=True,
    help="How the nodes are served; repeatable. The index is always there; cache: a filled UV_CACHE_DIR for one version"
    " of uv; venv: ready environments. Default: what the bundle has.",
)
@click.option(
    "--uv-version",
    metavar="V",
    help="The uv that goes into the bundle for the nodes. Default: the one that resolves.",
)
@click.option("--no-uv", is_flag=True, help="Leave uv out of the bundle.")
@click.option(
    "--with-python/--no-python",
    default=False,
    help="Also bring an interpreter for each target (python-build-standalone, as uv has it).  [default: --no-python]",
)
@ci_options
@sign_option
@click.option("--json", "as_json", is_flag=True, help="Say what was done as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Also list the packages.")
def build_command(  # noqa: PLR0913 - one parameter per option
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
    is_locked: bool,
    is_check: bool,
    sign: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Build a bundle from SCRIPTs with inline dependencies (PEP 723).

    Everything the scripts need is resolved, fetched, checked and written to DIR, from where they run with no network:
    `offline-bundle run SCRIPT --bundle DIR`, or `python3 DIR/run.py SCRIPT`.
    """
    from packaging.utils import canonicalize_name

    from offline_bundle.builder.cli.ci_options import tell_check
    from offline_bundle.builder.cli.progress import make_progress
    from offline_bundle.builder.model import BuildRequest
    from offline_bundle.builder.pipeline import build
    from offline_bundle.builder.resolve.model import ResolveOptions
    from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here
    from offline_bundle.wheelhouse.runtime.errors import InputError
    from offline_bundle.wheelhouse.signing import signing_with

    if uv_version and no_uv:
        raise InputError("--uv-version and --no-uv exclude each other", hint="give one of them")
    if nodes and platforms:
        hint = "leave out --python-platform: node.json says what the node is; or build twice into the same folder"
        raise InputError("--node and --python-platform exclude each other", hint=hint)
    missing = [f"--constraint {path}: no such file" for path in constraints if not path.is_file()]
    if missing:
        raise InputError(
            "a file named on the command line is missing", problems=missing, hint="check its path"
        )
    request = BuildRequest(
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
        is_locked=is_locked,
        formats=formats,
        sign=signing_with(sign) if sign else None,
    )
    started = time.monotonic()
    with make_progress(is_quiet=quiet or as_json) as progress:
        if is_check:
            from offline_bundle.builder.check import check

            checked = check(request, find_uv(), progress)
        else:
            report = build(request, find_uv(), progress)
    if is_check:
        return tell_check(checked, as_json=as_json, is_quiet=quiet)
    if as_json:
        click.echo(json.dumps(_document(report), indent=1))
    elif not quiet:
        _tell(report, time.monotonic() - started, is_verbose=verbose)
    return 0


def _tell(report: BuildReport, seconds: float, *, is_verbose: bool) -> None:
    from offline_bundle.wheelhouse.runtime.sizes import count, format_size

    for note in report.notes:
        click.secho(f"note: {note}", fg="yellow", err=True)
    for lock in report.locks:
        script, target = lock.resolution.script, lock.resolution.target
        click.echo(
            f"{script.path.name} for Python {target.python} on {target.platform}: {count(len(lock.wheels), 'package')}",
            err=True,
        )
        for wheel in lock.wheels if is_verbose else ():
            click.echo(
                f"  {wheel.name} {wheel.version}  {wheel.filename}  {format_size(wheel.size)}",
                err=True,
            )
    if not report.changed:
        click.echo(
            f"{report.output} is up to date ({count(report.files, 'file')}, {format_size(report.size)}).",
            err=True,
        )
        return
    cached = f", {report.from_cache} from the cache" if report.from_cache else ""
    fetched = f"{count(report.fetched, 'file')} fetched ({format_size(report.fetched_size)}){cached}"
    built = f", {count(len(report.built), 'wheel')} built" if report.built else ""
    click.echo(
        f"{report.output}: {count(report.files, 'file')}, {format_size(report.size)}; {fetched}{built}, {seconds:.1f} s.",
        err=True,
    )
    path = report.locks[0].resolution.script.path
    click.echo(f"Run it:  offline-bundle run {path} --bundle {report.output}", err=True)
    click.echo(
        f"or, with nothing of ours installed:  python3 {report.output / 'run.py'} {path}", err=True
    )


def _document(report: BuildReport) -> dict[str, object]:
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
    }
