"""Resolve with pip-compile and pip, by the site's own pip configuration.

For sites whose pip configuration (pip.conf, `PIP_…`) decides which indexes, passwords, certificates
and proxies are used. uv's configuration and variables are not read, and pip itself fetches the
files. pip resolves for the interpreter it runs in, so a target must be this machine with a Python
that exists here. Other targets are refused by name, and so is what pip-tools cannot honor of a
script's `[tool.uv]`.

1. `pip-compile --generate-hashes` chooses versions and lists the digests of all their files.
2. `pip install --dry-run --report` selects one file of each
   (https://pip.pypa.io/en/stable/reference/installation-report/).
3. `pip download --require-hashes` fetches exactly these.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.cache import DownloadCache
from offline_bundle.builder.fetch.credentials import redact
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.model import Artifact, Indexes, Resolution, ResolveOptions
from offline_bundle.builder.resolve.pip_sandbox import USE_UV, PipSandbox, pip_sandbox
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.wheelhouse.runtime.disk.files import file_digest
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    InputError,
    ResolveError,
)

_BLOCK = 1 << 20
_PIP_CONFIG = "pip's own configuration decides: see `pip config debug`"
# Keys of [tool.uv] that do not decide a script's files; `constraint-dependencies` is passed on.
_HONORED = {
    "cache-dir",
    "cache-keys",
    "compile-bytecode",
    "concurrent-builds",
    "concurrent-downloads",
    "concurrent-installs",
    "constraint-dependencies",
    "default-groups",
    "dev-dependencies",
    "link-mode",
    "managed",
    "native-tls",
    "offline",
    "package",
    "preview",
    "python-downloads",
    "python-install-mirror",
    "python-preference",
    "system-certs",
}


class PipToolsResolver:
    """`Resolver` by pip-compile."""

    def __init__(self, options: ResolveOptions, cache: DownloadCache) -> None:
        """*cache* takes the files. Raises InputError (exit 2) for options of uv."""
        _check_options(options)
        self._options = options
        self._cache = cache

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `Resolver.resolve`."""
        _check_settings(script)
        with pip_sandbox(script, target) as sandbox:
            built = self._compile(script, target, sandbox)
            items, index = self._report(script, target, sandbox, built)
        packages = [_package(item, index) for item in items]
        document = {"lock-version": "1.0", "created-by": "pip-tools", "packages": packages}
        yanked = [item["metadata"] for item in items if item.get("is_yanked")]
        return Resolution(
            script=script,
            target=target,
            full_version=target.full_version(script.requires_python),
            lock=Pylock.from_dict(document),
            yanked={canonicalize_name(package["name"]): "" for package in yanked},
            built=frozenset(built),
            warnings=tuple(
                f"`{package['name']}=={package['version']}` is yanked" for package in yanked
            ),
        )

    def index_of(self, resolution: Resolution) -> Indexes:
        """Return pip's one index; with several, pip does not report which one."""
        packages = resolution.lock.packages
        return Indexes({package.name: package.index for package in packages if package.index})

    def prefetch(self, resolution: Resolution, artifacts: Sequence[Artifact]) -> set[str]:
        """Let pip download what the cache does not have; see `Resolver.prefetch`.

        pip would not verify files without a digest: these are left to the downloader.
        """
        wanted = {
            artifact.hashes["sha256"]: artifact
            for artifact in artifacts
            if not artifact.is_local
            and "sha256" in artifact.hashes
            and self._cache.get(artifact.hashes["sha256"]) is None
        }
        if wanted:
            with pip_sandbox(resolution.script, resolution.target) as sandbox:
                self._download(resolution, wanted, sandbox)
        return set(wanted)

    def _download(
        self, resolution: Resolution, wanted: Mapping[str, Artifact], sandbox: PipSandbox
    ) -> None:
        direct = _direct_references(resolution.script)
        lines = [
            f"{direct.get(artifact.name, f'{artifact.name}=={artifact.version}')} "
            f"--hash=sha256:{sha256}\n"
            for sha256, artifact in wanted.items()
        ]
        (sandbox.folder / "files.txt").write_text("".join(lines), encoding="utf-8")
        command = ["download", "--no-deps", "--require-hashes", "--requirement", "files.txt"]
        command += ["--dest", "files", *self._wheels_only(resolution.built)]
        outcome = sandbox.run("pip", *command, "--progress-bar", "off")
        fetched = {self._keep(path) for path in sorted((sandbox.folder / "files").glob("*"))}
        missing = [artifact for sha256, artifact in wanted.items() if sha256 not in fetched]
        if outcome.returncode != 0 or missing:
            problems = [f"missing: {artifact.filename}" for artifact in missing]
            raise FetchError(
                f"{resolution.script.path} for {resolution.target.name}: "
                "pip could not fetch every file",
                problems=[*problems, *_errors(outcome)],
                hint=_PIP_CONFIG,
            )

    def _compile(self, script: Script, target: Target, sandbox: PipSandbox) -> set[str]:
        """Write `locked.txt`; return the packages taken from source, which is allowed."""
        folder = script.path.resolve().parent
        dependencies = [
            uv_settings.absolute_requirement(text, folder) for text in script.dependencies
        ]
        constraints = script.settings.get("constraint-dependencies", [])
        for name, lines in (("script.in", dependencies), ("constraints.txt", constraints)):
            (sandbox.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = ["compile", "script.in", "--output-file", "locked.txt", "--generate-hashes"]
        command += ["--no-config", "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += ["--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options"]
        command += ["--strip-extras", "--allow-unsafe", "--rebuild", "--quiet"]
        command += ["--cache-dir", "cache", "--constraint", "constraints.txt"]
        for path in self._options.constraints:
            command += ["--constraint", str(path.resolve())]
        built: set[str] = set()
        while True:
            pip_arguments = " ".join(["--no-input", *self._wheels_only(built)])
            outcome = sandbox.run("piptools", *command, "--pip-args", pip_arguments)
            if outcome.returncode == 0:
                return built
            allowed = {name for name in _not_found(outcome) if self._options.allows(name)} - built
            if not allowed or ":all:" in self._options.allow_build:
                raise self._error(script, target, sandbox, outcome)
            built |= allowed

    def _report(
        self, script: Script, target: Target, sandbox: PipSandbox, built: set[str]
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return the installation report's items, and the index if pip has only one."""
        command = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--require-hashes"]
        command += ["--no-user", "--break-system-packages", "--requirement", "locked.txt"]
        command += ["--report", "report.json", "--progress-bar", "off", *self._wheels_only(built)]
        outcome = sandbox.run("pip", *command)
        if outcome.returncode != 0:
            raise self._error(script, target, sandbox, outcome)
        document = json.loads((sandbox.folder / "report.json").read_text(encoding="utf-8"))
        if document["version"] != "1":
            raise BundleError(
                f"pip {document['pip_version']}: unknown version of its installation report",
                hint="resolve with uv (--resolver uv), or with an older pip",
            )
        index = re.search(r"^Looking in indexes: (\S+)$", outcome.stdout, re.MULTILINE)
        is_only = index and "Looking in links:" not in outcome.stdout
        return document["install"], redact(index[1]) if index and is_only else None

    def _wheels_only(self, built: Collection[str]) -> list[str]:
        """Return flags that also override `no-binary` in pip.conf."""
        if ":all:" in self._options.allow_build:
            return []
        sources = [part for name in sorted(built) for part in ("--no-binary", name)]
        return ["--only-binary", ":all:", *sources]

    def _keep(self, path: Path) -> str:
        sha256 = file_digest(path)
        with path.open("rb") as file, self._cache.partial(sha256) as partial:
            partial.clear()
            for block in iter(lambda: file.read(_BLOCK), b""):
                self._cache.append(partial, block)
            self._cache.store(partial, sha256)
        return sha256

    def _error(
        self,
        script: Script,
        target: Target,
        sandbox: PipSandbox,
        outcome: subprocess.CompletedProcess[str],
    ) -> BundleError:
        """Ask pip for details: pip-compile does not report that an index was unreachable."""
        command = ["install", "--dry-run", "--ignore-installed", "--no-user", "-vv"]
        command += ["--break-system-packages", "--requirement", "script.in"]
        command += ["--constraint", "constraints.txt", *self._wheels_only(())]
        log = sandbox.run("pip", *command).stdout
        unreachable = [redact(line.strip()) for line in log.splitlines() if _is_unreachable(line)]
        title = f"{script.path} cannot be resolved for {target.name}"
        problems = [*dict.fromkeys(unreachable), *_errors(outcome), *_conflict(log)]
        if unreachable:
            message = f"{title}: could not reach an index"
            return FetchError(message, problems=problems, hint=_PIP_CONFIG)
        hint = f"loosen the requirements of the script or its packages; {_PIP_CONFIG}"
        if any(f"/{name}/" in log for name in _not_found(outcome)):
            hint = "only wheels are used; for a package without wheels add --allow-build NAME"
        return ResolveError(title, problems=problems, hint=hint)


def _check_options(options: ResolveOptions) -> None:
    flags = {
        "--index": options.indexes,
        "--default-index": options.default_index,
        "--index-strategy": options.index_strategy,
        "--find-links": options.find_links,
        "--allow-insecure-host": options.insecure_hosts,
        "--exclude-newer": options.exclude_newer,
    }
    given = [flag for flag, value in flags.items() if value]
    if given:
        raise InputError(
            f"{', '.join(given)} cannot be combined with --resolver pip-tools: "
            "pip's configuration decides",
            hint="use pip.conf, or PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, "
            "PIP_TRUSTED_HOST",
        )


def _direct_references(script: Script) -> dict[str, str]:
    """Return name -> requirement without marker, for those that name a file (`foo @ https://…`)."""
    folder = script.path.resolve().parent
    direct = [
        uv_settings.absolute_requirement(text, folder)
        for text in script.dependencies
        if "@" in text
    ]
    return {
        str(canonicalize_name(Requirement(text).name)): text.partition(" ;")[0] for text in direct
    }


def _check_settings(script: Script) -> None:
    problems = [
        f"{script.path}: [tool.uv] {key}: only uv understands it"
        for key in sorted(script.settings.keys() - _HONORED)
        if script.settings[key] not in ([], {})
    ]
    if script.path.with_name(f"{script.path.name}.lock").exists():
        problems.append(f"{script.path}.lock: only uv understands it")
    for text in script.dependencies:
        reference = text.partition("@")[2].partition(";")[0].strip()
        path = urlsplit(reference).path
        if reference and not path.endswith((".whl", ".tar.gz", ".zip")):
            problems.append(
                f"{script.path}: `{redact(text)}`: pip has no digest for a folder or a repository"
            )
    if problems:
        message = "pip-tools cannot resolve this as the script requires"
        raise ResolveError(message, problems=problems, hint=USE_UV)


def _package(item: Mapping[str, Any], index: str | None) -> dict[str, Any]:
    """Return one item of pip's report as a package of a PEP 751 lock."""
    metadata, info = item["metadata"], item["download_info"]
    hashes = info.get("archive_info", {}).get("hashes", {})
    if "sha256" not in hashes:
        raise ResolveError(f"{metadata['name']}: pip reports no sha256 of its file", hint=USE_UV)
    url = info["url"]
    path = urlsplit(url).path
    filename = unquote(path).rpartition("/")[2]
    location = {"path": url2pathname(path)} if url.startswith("file:") else {"url": url}
    file = {**location, "hashes": {"sha256": hashes["sha256"]}}
    package: dict[str, Any] = {
        "name": canonicalize_name(metadata["name"]),
        "version": metadata["version"],
    }
    if item.get("is_direct"):
        return {**package, "archive": file}
    package |= {"index": index} if index else {}
    if filename.endswith(".whl"):
        return {**package, "wheels": [{"name": filename, **file}]}
    return {**package, "sdist": {"name": filename, **file}}


def _not_found(outcome: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the packages of which pip found no file."""
    names = re.findall(r"No matching distribution found for ([A-Za-z0-9._-]+)", outcome.stderr)
    return [str(canonicalize_name(name)) for name in names]


def _errors(outcome: subprocess.CompletedProcess[str]) -> list[str]:
    """Return pip's messages, without the traceback that pip-compile shows of pip."""
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    messages = [line for line in lines if re.match(r"(?:ERROR|WARNING|Error): ", line)]
    return list(dict.fromkeys(redact(line) for line in messages or lines[-1:]))


def _is_unreachable(line: str) -> bool:
    """Return True unless the index answers 404: then it has no such package."""
    return "Could not fetch URL" in line and "404 Client Error" not in line


def _conflict(log: str) -> list[str]:
    match = re.search(r"The conflict is caused by:\n(.*?)\n\s*\n", log, re.DOTALL)
    return [redact(line.strip()) for line in match[1].splitlines()] if match else []
