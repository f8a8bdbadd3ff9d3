"""Checks of `doctor` on the cluster side: what running scripts and jobs needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from offline_bundle.wheelhouse.cli.kit.doctor_checks import Check, CheckResult, result_of
from offline_bundle.wheelhouse.cli.kit.settings import read_settings
from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.processes import find_program, run_captured
from offline_bundle.wheelhouse.runtime.sizes import format_size

_LITTLE_SPACE = 2 * 1024**3
"""Bytes: a few environments of scientific packages."""
_SECONDS = 10


def checks() -> list[Check]:
    """Return the checks in the order of a start."""
    return [
        ("bundle", _bundle),
        ("cache folder", _cache),
        ("network cutting", _network),
        ("FUSE", _fuse),
        ("Slurm", _slurm),
        ("HPS", _hps),
    ]


def _bundle() -> CheckResult:
    from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest

    setting = read_settings().get("bundle")
    if setting is None:
        return CheckResult("ok", "none is set: name one with --bundle or OFFLINE_BUNDLE")
    manifest = read_manifest(Path(str(setting.value)))
    scripts = ", ".join(sorted(manifest.scripts))
    return CheckResult("ok", f"{setting.value} (set by {setting.origin}): {scripts}")


def _cache() -> CheckResult:
    from offline_bundle.wheelhouse.runtime.disk.cache_setup import cache_directory

    folder = cache_directory()
    free = shutil.disk_usage(folder).free
    text = f"{folder}, {format_size(free)} free"
    if free < _LITTLE_SPACE:
        cure = "free space, or set OFFLINE_BUNDLE_CACHE to a folder on another disk"
        return CheckResult("warning", text, cure)
    return CheckResult("ok", text)


def _network() -> CheckResult:
    from offline_bundle.runner.network import no_network_command

    try:
        no_network_command(["true"])
    except BundleError as error:
        return result_of(error, "warning")
    else:
        return CheckResult("ok", "--no-network works")


def _fuse() -> CheckResult:
    program = next(filter(None, map(find_program, ("squashfuse_ll", "squashfuse"))), None)
    if program and os.access("/dev/fuse", os.R_OK | os.W_OK):
        return CheckResult("ok", f"{program}: image bundles are mounted")
    reason = "/dev/fuse cannot be used" if program else "squashfuse is not on PATH"
    cure = "install squashfuse and allow /dev/fuse, for image bundles only: they are unpacked now"
    return CheckResult("warning", reason, cure)


def _slurm() -> CheckResult:
    sinfo = find_program("sinfo")
    if not sinfo:
        return CheckResult("ok", "not on this machine (no sinfo on PATH)")
    try:
        done = run_captured([sinfo, "--noheader", "--format", "%P %a %D"], seconds=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        done = subprocess.CompletedProcess([], 1, "", str(error))
    if done.returncode == 0:
        partitions = ", ".join(line.split()[0] for line in done.stdout.splitlines() if line)
        return CheckResult("ok", f"partitions: {partitions or 'none'}")
    reason = " ".join(done.stderr.split()) or "sinfo failed"
    cure = "check that slurmctld runs and that this machine has its slurm.conf and munge key"
    return CheckResult("warning", reason, cure)


def _hps() -> CheckResult:
    settings = read_settings()
    if "url" not in settings:
        return CheckResult("ok", "no server is set (HPS_URL)")
    import requests

    url = str(settings["url"].value)
    ca_file = settings.get("ca-file")
    try:
        requests.get(url, timeout=_SECONDS, verify=str(ca_file.value) if ca_file else True)
    except requests.exceptions.SSLError:
        cure = "name the certificates of your site's authority with --ca-file"
        return CheckResult("problem", f"{url}: its certificate is not trusted", cure)
    except (requests.exceptions.RequestException, OSError) as error:
        cure = "check the URL, the network and the proxy (NO_PROXY)"
        reason = type(error).__name__
        return CheckResult("problem", f"could not reach {url}: {reason}", cure)
    else:
        return CheckResult("ok", f"{url} answers")
