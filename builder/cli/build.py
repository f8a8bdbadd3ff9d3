"""The command `build`, also installed as `build-offline-bundle`."""

from __future__ import annotations

import time
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.builder.cli.build_options import SECTIONS, build_options, make_request
from offline_bundle.wheelhouse.cli.kit.options import PATH
from offline_bundle.wheelhouse.cli.kit.output import print_json, print_note
from offline_bundle.wheelhouse.cli.kit.sections import SETTINGS, SectionedCommand
from offline_bundle.wheelhouse.cli.kit.settings import is_configured

if TYPE_CHECKING:
    from offline_bundle.builder.model import BuildReport
    from offline_bundle.wheelhouse.derived.audit_result import Audit


@click.command("build", cls=SectionedCommand, titles=SECTIONS, context_settings=SETTINGS)
@click.argument("scripts", nargs=-1, required=True, metavar="SCRIPT...", type=PATH)
@build_options
@click.pass_context
def build_command(
    context: click.Context,
    /,
    *,
    is_check: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **values: Any,  # noqa: ANN401 - the parameters of `make_request`
) -> int:
    """Build a bundle from SCRIPTs with inline dependencies (PEP 723).

    SCRIPT is a script, a notebook with a metadata cell, a folder, or a quoted pattern. Resolve,
    fetch and verify everything that the scripts need, and write it to DIR. They run from there
    without a network: `offline-bundle run SCRIPT --bundle DIR`, or
    `python3 DIR/run.py SCRIPT`.
    """
    from offline_bundle.builder.cli.progress import build_progress
    from offline_bundle.builder.resolve.uv_process import find_uv

    if values["nodes"] and is_configured(context, "platforms"):
        values["platforms"] = ()  # the nodes of the command line decide
    request = make_request(values)
    started = time.monotonic()
    if is_check:
        from offline_bundle.builder.check import check
        from offline_bundle.builder.cli.ci_options import print_check
        from offline_bundle.builder.model import ReviewOptions

        with build_progress(is_quiet=quiet or as_json) as progress:
            result = check(request, find_uv(), progress)
        if request.review != ReviewOptions():
            print_note("--check reviews nothing: use --locked for that")
        return print_check(result, as_json=as_json, is_quiet=quiet)
    from offline_bundle.builder.pipeline import build

    with build_progress(is_quiet=quiet or as_json) as progress:
        report = build(request, find_uv(), progress)
    if as_json:
        print_json(_document(report))
    elif not quiet:
        _print_report(report, time.monotonic() - started, is_verbose=verbose)
    return 0


def _print_report(report: BuildReport, seconds: float, *, is_verbose: bool) -> None:
    from offline_bundle.wheelhouse.runtime.sizes import count, format_size
    from offline_bundle.wheelhouse.runtime.text import printable_lines

    for note in (*report.notes, *_audit_notes(report.audit)):
        print_note(note)
    lines = []
    for lock in report.locks:
        script, target = lock.resolution.script, lock.resolution.target
        packages = count(len(lock.wheels), "package")
        python = f"Python {target.python} on {target.platform}"
        libc = "glibc" if target.glibc else "musl"
        floor = f", runs on {libc} {lock.libc} or newer" if lock.libc else ""
        lines.append(f"{script.path.name} for {python}: {packages}{floor}")
        lines += [
            f"  {wheel.name} {wheel.version}  {wheel.filename}  {format_size(wheel.size)}"
            for wheel in (lock.wheels if is_verbose else ())
        ]
    output = quote(str(report.output))
    if report.unneeded:
        unneeded = f"{count(report.unneeded, 'file')} ({format_size(report.unneeded_size)})"
        lines.append(f"No script needs {unneeded}: offline-bundle prune {output}")
    size = f"{count(report.files, 'file')}, {format_size(report.size)}"
    if not report.changed:
        lines.append(f"{report.output} is up to date ({size}).")
    else:
        script = report.locks[0].resolution.script
        path = script.path
        if path.suffix == ".ipynb":  # the bundle has a script that runs it
            path = report.output / "scripts" / f"{script.name}.py"
        runner, script_path = quote(str(report.output / "run.py")), quote(str(path))
        lines += [
            f"{report.output}: {size}; {_work(report)}, {seconds:.1f} s.",
            f"Run it:  offline-bundle run {script_path} --bundle {output}",
            f"or without installing offline-bundle:  python3 {runner} {script_path}",
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
    parts = [fetched] if report.fetched else []
    parts += [f"{count(report.from_cache, 'file')} from the cache"] if report.from_cache else []
    parts += [f"{count(len(report.built), 'wheel')} built"] if report.built else []
    kept = f"{count(len(report.kept), 'wheel')} kept from an earlier build"
    parts += [kept] if report.kept else []
    return ", ".join(parts) or "nothing to fetch"


def _document(report: BuildReport) -> dict[str, object]:
    from offline_bundle.wheelhouse.audit.render import to_json

    return {
        "bundle": str(report.output),
        "changed": report.changed,
        "files": report.files,
        "size": report.size,
        "fetched": {"files": report.fetched, "size": report.fetched_size},
        "built": list(report.built),
        "kept": list(report.kept),
        "unneeded": {"files": report.unneeded, "size": report.unneeded_size},
        "locks": [
            {
                "script": lock.resolution.script.name,
                "target": lock.resolution.target.name,
                "libc": lock.libc,
                "packages": {wheel.name: wheel.version for wheel in lock.wheels},
            }
            for lock in report.locks
        ],
        "notes": list(report.notes),
        **({"audit": to_json(report.audit)} if report.audit else {}),
    }
