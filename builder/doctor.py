"""Checks of `doctor` on the connected side: what a build needs."""

from __future__ import annotations

import os

from offline_bundle.wheelhouse.cli.kit.doctor_checks import Check, CheckResult, result_of
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.processes import find_program


def checks() -> list[Check]:
    """Return the checks in the order of a build."""
    return [
        ("uv", _uv),
        ("Python", _pythons),
        ("certificates", _certificates),
        ("index", _index),
        ("signing", _signing),
    ]


def _uv() -> CheckResult:
    from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here

    try:
        return CheckResult("ok", f"{uv_version_here()}, {find_uv()}")
    except (ImportError, FileNotFoundError) as error:
        return CheckResult("problem", f"the package uv is incomplete: {error}", "install it again")


def _pythons() -> CheckResult:
    from offline_bundle.builder.inputs.targets import KNOWN_MINORS
    from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter

    found = [minor for minor in KNOWN_MINORS if find_interpreter((3, int(minor.partition(".")[2])))]
    return CheckResult("ok", f"versions to compile and build with: {', '.join(found)}")


def _certificates() -> CheckResult:
    from offline_bundle.builder.fetch import tls
    from offline_bundle.builder.fetch.model import TlsSettings

    tls.verifying_context()
    sources = ", ".join(dict.fromkeys(tls.certificate_paths(TlsSettings())))
    return CheckResult("ok", f"authorities in {sources}")


def _index() -> CheckResult:
    """Resolve uv itself, which every build needs for the nodes, as a build does."""
    from offline_bundle.builder.extras.uv_binaries import uv_requirement_script
    from offline_bundle.builder.fetch.credential_helpers import StoredLogins
    from offline_bundle.builder.fetch.credentials import Credentials
    from offline_bundle.builder.inputs.targets import Target, host_platform
    from offline_bundle.builder.resolve.model import ResolveOptions
    from offline_bundle.builder.resolve.settings.uv_settings import index_locations
    from offline_bundle.builder.resolve.uv import UvResolver
    from offline_bundle.builder.resolve.uv_process import find_uv, uv_version_here

    script = uv_requirement_script(uv_version_here())
    logins = StoredLogins(find_uv(), use_keyring=False)
    credentials = Credentials(index_locations(script), os.environ, logins)
    resolver = UvResolver(find_uv(), ResolveOptions(), credentials)
    try:
        resolver.resolve(script, Target("3.12", host_platform()))
    except BundleError as error:
        # on an air-gapped cluster this is as it should be
        note = "builds need an index, and running scripts from bundles needs none; "
        result = result_of(error, "warning")
        return CheckResult("warning", result.text, f"{note}{result.cure}")
    else:
        return CheckResult("ok", "reachable, and it has uv for the nodes")


def _signing() -> CheckResult:
    program = find_program("ssh-keygen")
    if program:
        return CheckResult("ok", program)
    cure = "install OpenSSH to sign bundles and to check signatures"
    return CheckResult("warning", "ssh-keygen is not on PATH", cure)
