"""The second resolver: pip-compile and pip, under the site's own pip configuration.

For sites whose pip configuration (pip.conf, `PIP_…`) is the law: what may be asked, with which password, certificate
and proxy, is for pip to know; neither uv's configuration nor its variables are looked at, and pip itself brings the
files. pip resolves for the interpreter that it runs in, so a target is served only where it is this machine with a
Python that is at hand; any other is refused by name, and so is what pip-tools cannot honour of a script's `[tool.uv]`.

1. `pip-compile --generate-hashes` chooses versions and lists the digests of all their files;
2. `pip install --dry-run --report` says which file of each is the best one here (the report's format is a standard of
   the PyPA: https://pip.pypa.io/en/stable/reference/installation-report/);
3. `pip download --require-hashes` brings exactly these.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credentials import redact
from offline_bundle.builder.inputs.targets import Target, host_platform
from offline_bundle.builder.resolve import uv_settings
from offline_bundle.builder.resolve.model import Resolution
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    InputError,
    ResolveError,
)
from offline_bundle.wheelhouse.runtime.interpreters import find_interpreter
from offline_bundle.wheelhouse.runtime.requirements import python_matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from offline_bundle.builder.fetch.cache import DownloadCache
    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.resolve.model import Artifact, ResolveOptions

_BLOCK = 1 << 20
_INSTALL = "install offline-bundle again, with its dependencies: `uv tool install offline-bundle`"
_OTHER_RESOLVER = "leave out `--resolver pip-tools`: uv can do this"
# Keys of [tool.uv] that decide nothing about which files a script gets; `constraint-dependencies` is passed on.
_HEEDED = {
    *(
        "cache-dir",
        "cache-keys",
        "compile-bytecode",
        "constraint-dependencies",
        "default-groups",
        "dev-dependencies",
    ),
    *(
        "concurrent-builds",
        "concurrent-downloads",
        "concurrent-installs",
        "link-mode",
        "managed",
        "native-tls",
    ),
    *(
        "offline",
        "package",
        "preview",
        "python-downloads",
        "python-install-mirror",
        "python-preference",
    ),
    "system-certs",
}
# Variables that mean another interpreter, another platform or other output than what is asked for here.
_DROPPED = {
    *(
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PIP_ABI",
        "PIP_DRY_RUN",
    ),
    *(
        "PIP_IMPLEMENTATION",
        "PIP_LOG",
        "PIP_PLATFORM",
        "PIP_PYTHON",
        "PIP_PYTHON_VERSION",
        "PIP_QUIET",
    ),
    *("PIP_REPORT", "PIP_TARGET", "PIP_USER", "PIP_VERBOSE"),
}
_QUESTION = (
    "import json, platform, sys, sysconfig; print(json.dumps({'version': list(sys.version_info[:3]),"
    " 'release': platform.python_version(), 'implementation': platform.python_implementation(),"
    " 'free-threaded': bool(sysconfig.get_config_var('Py_GIL_DISABLED'))}))"
)


@dataclass(frozen=True)
class _Workshop:
    """A folder, and an interpreter of the target's Python that can run pip-compile and pip in it."""

    folder: Path
    interpreter: str
    environment: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m …` here."""
        return subprocess.run(
            [self.interpreter, "-m", *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )


class PipToolsResolver:
    """`offline_bundle.builder.resolve.uv.Resolver` by pip-compile."""

    def __init__(self, options: ResolveOptions, cache: DownloadCache) -> None:
        """*cache* takes the files. Raises InputError (exit 2) for options that only uv understands."""
        _refuse_options(options)
        self._options = options
        self._cache = cache

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `offline_bundle.builder.resolve.uv.Resolver.resolve`."""
        _refuse_settings(script)
        report: list[dict[str, Any]] = []
        with _workshop(script, target) as workshop:
            built = self._compile(script, target, workshop)
            report, index = self._report(script, target, workshop, built)
        lock = Pylock.from_dict({
            "lock-version": "1.0",
            "created-by": "pip-tools",
            "packages": [_package(item, index) for item in report],
        })  # fmt: skip
        yanked = [item["metadata"] for item in report if item.get("is_yanked")]
        return Resolution(
            script=script,
            target=target,
            full_version=target.full_version(script.requires_python),
            lock=lock,
            yanked={canonicalize_name(package["name"]): "" for package in yanked},
            built=frozenset(built),
            warnings=tuple(
                f"`{package['name']}=={package['version']}` is yanked" for package in yanked
            ),
        )

    def index_of(self, resolution: Resolution) -> dict[str, str]:
        """What pip says: the one index that it looks in. Where there are several, it does not tell them apart."""
        return {
            package.name: package.index for package in resolution.lock.packages if package.index
        }

    def prefetch(self, resolution: Resolution, choices: Sequence[Artifact]) -> set[str]:
        """Let pip download what the cache does not hold of *choices*; their sha256. Raises FetchError (exit 4).

        What has no digest, it would not verify: that is left to whoever verifies it in another way.
        """
        wanted = {
            choice.hashes["sha256"]: choice
            for choice in choices
            if not choice.is_local
            and "sha256" in choice.hashes
            and self._cache.get(choice.hashes["sha256"]) is None
        }
        brought = set(wanted)
        if not wanted:
            return brought
        script, target = resolution.script, resolution.target
        with _workshop(script, target) as workshop:
            direct = _direct_references(script)
            pins = {
                sha: direct.get(choice.name, f"{choice.name}=={choice.version}")
                for sha, choice in wanted.items()
            }
            lines = [f"{pin} --hash=sha256:{sha256}" for sha256, pin in pins.items()]
            (workshop.folder / "files.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            command = [
                "download",
                "--no-deps",
                "--require-hashes",
                "--requirement",
                "files.txt",
                "--dest",
                "files",
            ]
            outcome = workshop.run(
                "pip", *command, *self._wheels_only(resolution.built), "--progress-bar", "off"
            )
            for path in sorted((workshop.folder / "files").glob("*")):
                wanted.pop(self._keep(path), None)
            if outcome.returncode != 0 or wanted:
                raise FetchError(
                    f"{script.path} for {target.name}: pip could not fetch every file",
                    problems=[
                        *(f"missing: {choice.filename}" for choice in wanted.values()),
                        *_errors(outcome),
                    ],
                    hint="pip's own configuration decides where and how it asks: see `pip config debug`",
                )
        return brought

    def _compile(self, script: Script, target: Target, workshop: _Workshop) -> set[str]:
        """Write `locked.txt`; give the packages that had to be, and may be, taken from source."""
        folder = script.path.resolve().parent
        dependencies = [
            uv_settings.absolute_requirement(text, folder) for text in script.dependencies
        ]
        constraints = list(script.settings.get("constraint-dependencies", []))
        (workshop.folder / "script.in").write_text("\n".join(dependencies) + "\n", encoding="utf-8")
        (workshop.folder / "constraints.txt").write_text(
            "\n".join(constraints) + "\n", encoding="utf-8"
        )
        files = ["constraints.txt", *(str(path.resolve()) for path in self._options.constraints)]
        built: set[str] = set()
        while True:
            pip_arguments = " ".join(["--no-input", *self._wheels_only(built)])
            command = [
                "compile",
                "script.in",
                "--output-file",
                "locked.txt",
                "--generate-hashes",
                "--no-config",
            ]
            command += [
                "--no-header",
                "--no-annotate",
                "--no-emit-index-url",
                "--no-emit-trusted-host",
                "--quiet",
            ]
            command += [
                "--no-emit-find-links",
                "--no-emit-options",
                "--strip-extras",
                "--allow-unsafe",
                "--rebuild",
            ]
            command += [part for file in files for part in ("--constraint", file)]
            outcome = workshop.run(
                "piptools", *command, "--cache-dir", "cache", "--pip-args", pip_arguments
            )
            if outcome.returncode == 0:
                return built
            allowed = {name for name in _unfound(outcome) if self._options.allows(name)} - built
            if not allowed or ":all:" in self._options.allow_build:
                raise self._failure(script, target, workshop, outcome)
            built |= allowed

    def _report(
        self, script: Script, target: Target, workshop: _Workshop, built: set[str]
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The installation report's items, and the index where pip knows but one."""
        command = [
            "install",
            "--dry-run",
            "--ignore-installed",
            "--no-deps",
            "--require-hashes",
            "--no-user",
        ]
        command += [
            "--requirement",
            "locked.txt",
            "--report",
            "report.json",
            "--progress-bar",
            "off",
        ]
        outcome = workshop.run(
            "pip", *command, "--break-system-packages", *self._wheels_only(built)
        )
        if outcome.returncode != 0:
            raise self._failure(script, target, workshop, outcome)
        document = json.loads((workshop.folder / "report.json").read_text(encoding="utf-8"))
        if document["version"] != "1":
            message = f"pip {document['pip_version']} writes its report in a format that is not known here"
            raise BundleError(message, hint="resolve with uv (--resolver uv), or with an older pip")
        where = re.search(r"^Looking in indexes: (\S+)$", outcome.stdout, re.MULTILINE)
        is_all = where and "Looking in links:" not in outcome.stdout
        return document["install"], redact(where[1]) if where and is_all else None

    def _wheels_only(self, built: set[str] | frozenset[str]) -> list[str]:
        """Also where pip.conf says `no-binary`: pip lets the command line win."""
        if ":all:" in self._options.allow_build:
            return []
        return [
            "--only-binary",
            ":all:",
            *(part for name in sorted(built) for part in ("--no-binary", name)),
        ]

    def _keep(self, path: Path) -> str:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with self._cache.partial(sha256) as partial:
                partial.clear()
                for block in iter(lambda: file.read(_BLOCK), b""):
                    self._cache.append(partial, block)
                self._cache.store(partial, sha256)
        return sha256

    def _failure(
        self,
        script: Script,
        target: Target,
        workshop: _Workshop,
        outcome: subprocess.CompletedProcess[str],
    ) -> BundleError:
        """pip-compile does not say that an index could not be asked; pip does, when it is talkative."""
        asked = [
            "install",
            "--dry-run",
            "--ignore-installed",
            "--no-user",
            "--break-system-packages",
            "-vv",
        ]
        asked += [
            "--requirement",
            "script.in",
            "--constraint",
            "constraints.txt",
            *self._wheels_only(frozenset()),
        ]
        log = workshop.run("pip", *asked).stdout
        unanswered = [redact(line.strip()) for line in log.splitlines() if _is_unanswered(line)]
        where = f"{script.path} cannot be resolved for {target.name}"
        problems = [*dict.fromkeys(unanswered), *_errors(outcome), *_conflict(log)]
        if unanswered:
            return FetchError(
                f"{where}: an index could not be asked",
                problems=problems,
                hint="pip's own configuration decides where and how it asks: see `pip config debug`",
            )
        sources = [name for name in _unfound(outcome) if f"/{name}/" in log]
        return ResolveError(
            where,
            problems=problems,
            hint="only wheels are taken; a package that has none takes --allow-build NAME"
            if sources
            else "loosen what the script or its packages ask for, or see what else pip looks at: `pip config debug`",
        )


def _refuse_options(options: ResolveOptions) -> None:
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
            f"{', '.join(given)} cannot be combined with --resolver pip-tools: pip's configuration decides",
            hint="say the same in pip.conf or by PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, PIP_TRUSTED_HOST",
        )


def _direct_references(script: Script) -> dict[str, str]:
    """Name -> the requirement, for those that name a file (`foo @ https://…`), without its marker."""
    folder = script.path.resolve().parent
    direct = [
        uv_settings.absolute_requirement(text, folder)
        for text in script.dependencies
        if "@" in text
    ]
    return {
        str(canonicalize_name(Requirement(text).name)): text.partition(" ;")[0] for text in direct
    }


def _refuse_settings(script: Script) -> None:
    problems = [
        f"{script.path}: [tool.uv] {key}: only uv understands it"
        for key in sorted(script.settings.keys() - _HEEDED)
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
        raise ResolveError(
            "pip-tools cannot resolve this as the script says",
            problems=problems,
            hint=_OTHER_RESOLVER,
        )


@contextmanager
def _workshop(script: Script, target: Target) -> Iterator[_Workshop]:
    """Raise ResolveError (exit 3) where *target* is not this machine, or nothing here can run pip-compile for it."""
    interpreter, version, release = _interpreter(target)
    if not python_matches(script.requires_python, version):
        raise ResolveError(
            f"{script.path} cannot be resolved for {target.name} by pip-tools: the Python {target.python} here is "
            f'{release}, and requires-python is "{script.requires_python}"',
            hint=f"install such a Python, or {_OTHER_RESOLVER}",
        )
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
        folder = Path(name)
        (folder / "tools").mkdir()
        for found in _tools(target, release):
            _link(found, folder / "tools")
        environment = {key: value for key, value in os.environ.items() if key not in _DROPPED}
        environment |= {
            "PYTHONPATH": str(folder / "tools"),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUTF8": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_REQUIRE_VIRTUALENV": "0",
        }
        yield _Workshop(folder, interpreter, environment)


def _interpreter(target: Target) -> tuple[str, tuple[int, int, int], str]:
    """Path, version and release of an interpreter that is the target itself."""
    here = Target(target.python, host_platform())
    is_here = (here.system, here.architecture) == (target.system, target.architecture)
    refused = f"{target.name} cannot be served by pip-tools"
    if not is_here or (target.glibc or (0, 0)) > (here.glibc or (0, 0)):
        raise ResolveError(
            f"{refused}: pip resolves for the machine it runs on, and this is {here.platform}",
            hint=f"build there, or {_OTHER_RESOLVER}",
        )
    is_ours = sys.version_info[:2] == target.version
    path = sys.executable if is_ours else find_interpreter(target.version)
    facts = _facts(path) if path else {}
    if (
        facts.get("free-threaded") is not target.is_free_threaded
        or facts.get("implementation") != "CPython"
    ):
        raise ResolveError(
            f"{refused}: pip resolves for the Python it runs in, and there is no Python {target.python} here",
            hint=f"install one, or {_OTHER_RESOLVER}",
        )
    major, minor, micro = facts["version"]
    return str(path), (major, minor, micro), facts["release"]


def _facts(interpreter: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", _QUESTION],
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        facts: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return {}
    return facts


def _tools(target: Target, release: str) -> list[Distribution]:
    """pip-tools as it is installed with us, and all that it needs: plain Python, which other interpreters run too."""
    found: dict[str, Distribution] = {}
    problems = []
    queue = ["pip-tools"]
    environment = {key: str(value) for key, value in target.environment(release).items()}
    while queue:
        name = canonicalize_name(queue.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if name == "pip-tools":
                raise InputError(
                    "--resolver pip-tools: pip-tools is not installed", hint=_INSTALL
                ) from None
            problems.append(f"pip-tools needs {name} there, which is not installed")
            continue
        requires_python = str(found[name].metadata.json.get("requires_python", ""))
        if not SpecifierSet(requires_python).contains(release, prereleases=True):
            problems.append(f"{name} {found[name].version} needs Python {requires_python}")
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(
                {**environment, "extra": ""}
            ):
                queue.append(requirement.name)
    if problems:
        raise ResolveError(
            f"{target.name} cannot be served by pip-tools: it cannot run in Python {release}",
            problems=problems,
            hint=_OTHER_RESOLVER,
        )
    return list(found.values())


def _link(found: Distribution, folder: Path) -> None:
    """Make the packages of a distribution importable from *folder*, and no others of its environment."""
    for name in {
        file.parts[0] for file in found.files or () if file.parts[0] not in {"..", "__pycache__"}
    }:
        if not (folder / name).exists():
            (folder / name).symlink_to(Path(str(found.locate_file(name))).resolve())


def _package(item: Mapping[str, Any], index: str | None) -> dict[str, Any]:
    """One item of pip's report as a package of a PEP 751 lock."""
    metadata, info = item["metadata"], item["download_info"]
    hashes = info.get("archive_info", {}).get("hashes", {})
    if "sha256" not in hashes:
        raise ResolveError(
            f"{metadata['name']}: pip gives no sha256 of its file", hint=_OTHER_RESOLVER
        )
    url = info["url"]
    filename = unquote(urlsplit(url).path).rpartition("/")[2]
    place = {"path": url2pathname(urlsplit(url).path)} if url.startswith("file:") else {"url": url}
    file = {**place, "hashes": {"sha256": hashes["sha256"]}}
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


def _unfound(outcome: subprocess.CompletedProcess[str]) -> list[str]:
    """Names of the packages of which pip found no file."""
    names = re.findall(r"No matching distribution found for ([A-Za-z0-9._-]+)", outcome.stderr)
    return [str(canonicalize_name(name)) for name in names]


def _errors(outcome: subprocess.CompletedProcess[str]) -> list[str]:
    """What pip says is wrong, without the traceback that pip-compile shows of pip."""
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(?:ERROR|WARNING|Error): ", line)]
    return list(dict.fromkeys(redact(line) for line in told or lines[-1:]))


def _is_unanswered(line: str) -> bool:
    """An index that answers 404 has no such package; whatever else keeps pip from reading a page is a fault."""
    return "Could not fetch URL" in line and "404 Client Error" not in line


def _conflict(log: str) -> list[str]:
    match = re.search(r"The conflict is caused by:\n(.*?)\n\s*\n", log, re.DOTALL)
    return [redact(line.strip()) for line in match[1].splitlines()] if match else []
