"""Resolving a script for a target into a lock: the `Resolver` interface, and uv behind it.

`uv pip compile script.py` would ignore the script's own `exclude-newer`, indexes, sources and `requires-python`, and so
take a public package where the script names a private one. So the header is written as a temporary project (`[project]`
and `[tool.uv]` as they stand, relative paths made absolute) and that is compiled for the one target.

No code of a source distribution runs here unless it is allowed: everything is `--only-binary :all:`, and a setting that
would lift this (`no-binary` in the script or in uv's configuration, which uv lets win over the flag) is refused.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import tomli_w
from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credentials import Credentials, redact
from offline_bundle.builder.resolve import free_threaded, uv_settings
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    NotBuiltError,
    NoWheelError,
    ResolveError,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.pylock import Pylock

    from offline_bundle.builder.inputs.scripts import Script
    from offline_bundle.builder.inputs.targets import Target
    from offline_bundle.builder.resolve.select import Choice

# After so many packages without a usable file a lock is given up: enough to name them all at once, and no endless loop.
_MOST_FAULTS = 50
# And so many are looked at one by one: each costs a run of uv.
_MOST_SUSPECTS = 8
# Alternatives that are tried side by side.
_TRIALS = 3
# What uv says when it is no puzzle that has no solution: an index that wants other credentials than it got (it goes on
# without what it cannot see), one that cannot be asked, and a build that failed.
_REFUSAL = re.compile(
    r"An index(?: URL)? \((?P<index>\S+)\) (?:could not be queried due to a lack of valid auth|returned a 40[13])|"
    r"HTTP status client error \(40[13] [^)]*\) for url \((?P<file>\S+)\)"
)
_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|network was disabled|Could not connect|client error|"
    r"(?:Missing|Unsupported) `Content-Type`"
)
_UNBUILDABLE = re.compile(
    r"Failed to (?:download and )?build|Build backend failed|Failed to resolve requirements from `build"
)
# And where the fault is not with an index but with a place that the script itself names.
_NO_REPOSITORY = re.compile(
    r"Failed to [a-z ]+ `(?P<what>[^`]+ @ git\+[^`]+)`.*(?:Git operation failed|has no subdirectory)"
)
_NO_FILE = re.compile(
    r"Failed to [a-z ]+ `(?P<what>[^`]+ @ (?P<url>https?://[^`#]+)[^`]*)`.*(?:Failed to fetch:|for url) \(?(?P=url)"
)
_GONE = re.compile(r"HTTP status client error \(4(?:04|10) ")
_PINS = "pins.txt"


@dataclass(frozen=True)
class ResolveOptions:
    """What the command line adds to the script's own settings and to the user's uv configuration."""

    indexes: tuple[str, ...] = ()
    """As `--index` takes them: `URL` or `NAME=URL`."""
    default_index: str | None = None
    index_strategy: str | None = None
    """uv's: `first-index` (its default), `unsafe-first-match` or `unsafe-best-match`."""
    find_links: tuple[str, ...] = ()
    insecure_hosts: tuple[str, ...] = ()
    """`HOST` or `HOST:PORT` whose certificates are not checked."""
    exclude_newer: str | None = None
    constraints: tuple[Path, ...] = ()
    allow_build: frozenset[str] = frozenset()
    """Normalised names, or `:all:`."""
    interpreters: Mapping[str, str] = field(default_factory=dict)
    """Python minor -> an interpreter of this machine, for building where that is allowed."""

    def allows(self, name: str) -> bool:
        """Whether the package *name* may be built from source."""
        return ":all:" in self.allow_build or canonicalize_name(name) in self.allow_build

    def index_flags(self) -> list[str]:
        """The options about indexes, for any uv command; where the indexes are is in `index_variables`."""
        flags = ["--index-strategy", self.index_strategy] if self.index_strategy else []
        flags += [part for host in self.insecure_hosts for part in ("--allow-insecure-host", host)]
        return flags + (["--exclude-newer", self.exclude_newer] if self.exclude_newer else [])

    def index_variables(self, more: Sequence[str] = ()) -> dict[str, str]:
        """Where the indexes are, and *more* of them, as uv's environment variables.

        Their URLs may hold passwords, and the arguments of a process can be read by everybody on the machine.
        As a flag would, each variable replaces the one that the user has set.
        """
        indexes = " ".join(uv_settings.index_argument(index) for index in (*self.indexes, *more))
        default = uv_settings.index_argument(self.default_index) if self.default_index else ""
        find_links = ",".join(map(uv_settings.find_links_argument, self.find_links))
        variables = {"UV_INDEX": indexes, "UV_DEFAULT_INDEX": default, "UV_FIND_LINKS": find_links}
        return {name: value for name, value in variables.items() if value}


@dataclass(frozen=True)
class Resolution:
    """One script resolved for one target."""

    script: Script
    target: Target
    full_version: str
    """The Python release it was resolved for, such as "3.12.0"."""
    lock: Pylock
    """As the resolver made it: still with URLs; directories and local archives as absolute paths."""
    yanked: Mapping[str, str]
    """Package name -> why the chosen version was yanked (PEP 592); only pins bring such versions in."""
    built: frozenset[str] = frozenset()
    """Packages that were resolved from source because they may be built."""
    pinned: frozenset[str] = frozenset()
    """Packages that the script names a source for, and only other packages ask for."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Puzzle:
    """What uv is asked to solve."""

    script: Script
    target: Target
    full_version: str
    settings: Mapping[str, object]


class Resolver(Protocol):
    """A resolver turns a script and a target into exact files."""

    def resolve(self, script: Script, target: Target) -> Resolution:
        """The lock, which tells the target that it is for.

        Raises ResolveError (exit 3), or FetchError (exit 4) when an index cannot be asked or a build is not allowed.
        """
        ...

    def index_of(self, resolution: Resolution) -> dict[str, str]:
        """Package name -> URL of the index that it was taken from, without credentials, where that is known."""
        ...

    def bring(self, resolution: Resolution, choices: Sequence[Choice]) -> set[str]:
        """Put into the download cache what only the resolver itself can fetch; whatever is lacking then, we fetch.

        Gives the sha256 of the files that it has fetched. Raises FetchError (exit 4).
        """
        ...


class UvResolver:
    """`uv pip compile` on a temporary project that says what the script says."""

    def __init__(
        self,
        uv: str,
        options: ResolveOptions,
        credentials: Credentials,
        pins: Mapping[str, str] | None = None,
        alternatives: Callable[[Script, Target], Iterable[Target]] | None = None,
    ) -> None:
        """*uv* is the executable; secrets in *credentials* are never repeated from its output.

        *pins* has further constraints for single scripts: name -> text of a constraints file. *alternatives* are the
        targets that may be taken instead of one that lacks wheels.
        """
        self._pins = pins or {}
        self._alternatives = alternatives
        self._uv = uv
        self._options = options
        self._credentials = credentials

    def resolve(self, script: Script, target: Target) -> Resolution:
        """See `Resolver.resolve`.

        Where *target* lacks wheels, the lock is for the first of its alternatives that lacks none, and says so.
        """
        try:
            return self._resolve(script, target)
        except (NoWheelError, NotBuiltError) as error:
            found = self._resolve_for_another(script, target, error.packages)
            if found is None:
                raise
            return found

    def _resolve_for_another(
        self, script: Script, target: Target, lacking: frozenset[str]
    ) -> Resolution | None:
        """The lock for the first of *target*'s alternatives that has one, if it has the packages that are *lacking*.

        They are tried side by side, in their order: where none has one, it would take long to hear of that otherwise.
        """
        pool = ThreadPoolExecutor(_TRIALS)
        try:
            trials = [
                (other, pool.submit(self._resolve, script, other, is_trial=True))
                for other in (self._alternatives(script, target) if self._alternatives else ())
            ]
            for other, trial in trials:
                try:
                    found = trial.result()
                except (ResolveError, NotBuiltError):
                    continue
                if not lacking <= {str(package.name) for package in found.lock.packages}:
                    break  # it has no wheel of them either, and goes back to versions from before they were needed
                note = (
                    f"no wheel for Python {target.python} of {', '.join(sorted(lacking))}: "
                    f"Python {other.python} is taken instead; --python-version takes another"
                )
                return replace(found, warnings=(*found.warnings, note))
            return None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _resolve(self, script: Script, target: Target, *, is_trial: bool = False) -> Resolution:
        """The lock for exactly this target; in a trial nobody wants to know all that it lacks, and why."""
        uv_settings.refuse_forced_builds(script, self._options.allows)
        full_version = target.full_version(script.requires_python)
        settings = uv_settings.absolute_settings(script.settings, script.path.resolve().parent)
        built = set(self._free_to_build(settings, script))
        unpinned, pinned = uv_settings.pinned_names(script), set[str]()
        missing: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
            place = Path(folder)
            self._pin(place, script)
            while True:
                (place / "pylock.toml").unlink(missing_ok=True)  # uv would keep to its versions
                _write_project(place, script, full_version, settings, drop=missing, add=pinned)
                outcome = self._compile(place, target, full_version, built)
                text = self._clean(outcome.stderr, place)
                reached = _reached(unpinned - pinned, place / "pylock.toml", text)
                if reached:
                    pinned |= reached
                    continue
                if outcome.returncode == 0:
                    break
                unbuilt = _need_build(text) - missing.keys()
                allowed = {name for name in unbuilt if self._options.allows(name)} - built
                unfit = (_need_other_wheels(text) | unbuilt) - missing.keys()
                if allowed:
                    built |= allowed
                elif unfit and is_trial:
                    raise NoWheelError(f"no wheel for {target.name} of {', '.join(sorted(unfit))}")
                elif unfit and len(missing) < _MOST_FAULTS:
                    missing |= dict.fromkeys(sorted(unfit), text) | dict.fromkeys(
                        sorted(unbuilt), ""
                    )
                elif missing:
                    raise self._unusable(_Puzzle(script, target, full_version, settings), missing)
                else:
                    raise _failure(script, target, text, self._credentials)
            if missing:
                raise self._unusable(_Puzzle(script, target, full_version, settings), missing)
            lock = _read_lock(place / "pylock.toml")
        warnings = [line for line in outcome.stderr.splitlines() if line.startswith("warning: ")]
        return Resolution(
            script=script,
            target=target,
            full_version=full_version,
            lock=lock,
            yanked=_yanked(warnings),
            built=frozenset(built),
            pinned=frozenset(pinned),
            warnings=tuple(
                self._clean(line.removeprefix("warning: "), None)
                for line in warnings
                if _matters(line)
            ),
        )

    def index_of(self, resolution: Resolution) -> dict[str, str]:
        """A second run with uv's index annotations: its PEP 751 output does not name the index.

        What it needs is in uv's cache from the first run, and `--offline` takes it from there without asking again;
        only where an index forbids caching is it asked once more.
        """
        script = resolution.script
        settings = uv_settings.absolute_settings(script.settings, script.path.resolve().parent)
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
            place = Path(folder)
            self._pin(place, script)
            _write_project(
                place, script, resolution.full_version, settings, drop={}, add=resolution.pinned
            )
            for where in (["--offline"], []):
                flags = ["--emit-index-annotation", *where]
                outcome = self._compile(
                    place,
                    resolution.target,
                    resolution.full_version,
                    resolution.built,
                    *flags,
                    form="requirements.txt",
                )
                if outcome.returncode == 0:
                    return _annotations(outcome.stdout)
        return {}

    def bring(self, resolution: Resolution, choices: Sequence[Choice]) -> set[str]:
        """Nothing: what uv finds, we can fetch."""
        del resolution, choices
        return set()

    def _pin(self, place: Path, script: Script) -> None:
        if script.name in self._pins:
            (place / _PINS).write_text(self._pins[script.name], encoding="utf-8")

    def _free_to_build(self, settings: Mapping[str, object], script: Script) -> Iterator[str]:
        """A path source is the user's own code: it needs no flag."""
        yield from uv_settings.local_sources(settings)
        for text in script.dependencies:
            name, _, url = text.partition("@")
            if url.strip().startswith(("file:", ".", "/")):
                yield uv_settings.name_of(name)

    def _compile(
        self,
        place: Path,
        target: Target,
        full_version: str,
        built: set[str] | frozenset[str],
        *flags: str,
        form: str = "pylock.toml",
    ) -> subprocess.CompletedProcess[str]:
        options = self._options
        command = [
            self._uv,
            "pip",
            "compile",
            "pyproject.toml",
            "--format",
            form,
            "--no-progress",
            "--color",
            "never",
        ]
        command += ["--output-file", "pylock.toml"] if form == "pylock.toml" else []
        command += [
            "--python-version",
            full_version,
            "--python-platform",
            target.platform,
            "--no-python-downloads",
        ]
        command += ["--python", self._interpreter(target, place), "--no-header", *flags]
        command += options.index_flags()
        command += [
            part for path in options.constraints for part in ("--constraint", str(path.resolve()))
        ]
        command += ["--constraint", _PINS] if (place / _PINS).exists() else []
        if ":all:" not in options.allow_build:
            command += ["--only-binary", ":all:"]
            command += [part for name in sorted(built) for part in ("--no-binary", name)]
        return uv_settings.run_uv(command, place, **options.index_variables())

    def _unusable(self, puzzle: _Puzzle, missing: Mapping[str, str]) -> BundleError:
        """The error for the packages in *missing*, which have no file that the target can use.

        "Allow building it" is no help where the sources are for other Pythons too. Whether they are, uv tells without
        running any of their code when it is given their metadata (`dependency-metadata`) and so has none to build.
        It takes that for packages of an index only: those from elsewhere are left out, for their code would run.
        """
        missing = self._culprits(puzzle, missing)
        script, settings = puzzle.script, puzzle.settings
        sources = {name for name, text in missing.items() if not text} - _named_places(
            script, settings
        )
        if sources:
            declared = settings.get("dependency-metadata")
            stated = [*(declared if isinstance(declared, list) else [])]
            stated += [{"name": name, "requires-dist": []} for name in sorted(sources)]
            others = {name: text for name, text in missing.items() if name not in sources}
            stating = replace(puzzle, settings={**settings, "dependency-metadata": stated})
            is_solved, text = self._try(stating, drop=others, built=sources)
            if not is_solved and "requested Python version" in text:
                return _failure(script, puzzle.target, text, self._credentials)
        return _unusable(script, puzzle.target, missing)

    def _culprits(self, puzzle: _Puzzle, missing: Mapping[str, str]) -> Mapping[str, str]:
        """Those of *missing* that are at fault: uv also names packages of which it tried old versions because of them.

        What the script itself asks for is given back first: where that does, the fault is in what it brings along.
        """
        culprits = dict(missing)
        asked_for = {uv_settings.name_of(text) for text in puzzle.script.dependencies}
        suspects = sorted(missing, key=lambda name: (name not in asked_for, name))
        for name in suspects if 1 < len(suspects) <= _MOST_SUSPECTS else ():
            others = {other: text for other, text in culprits.items() if other != name}
            if others and self._try(puzzle, drop=others)[0]:
                culprits = others
        return culprits

    def _try(
        self,
        puzzle: _Puzzle,
        *,
        drop: Mapping[str, str],
        built: set[str] | frozenset[str] = frozenset(),
    ) -> tuple[bool, str]:
        """Whether the puzzle has a solution without the packages in *drop*, and what uv says."""
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
            place = Path(folder)
            _write_project(
                place,
                puzzle.script,
                puzzle.full_version,
                puzzle.settings,
                drop=drop,
                add=frozenset(),
            )
            outcome = self._compile(place, puzzle.target, puzzle.full_version, built)
            return outcome.returncode == 0, self._clean(outcome.stderr, place)

    def _interpreter(self, target: Target, place: Path) -> str:
        """Whom uv asks: flags give the target's version and platform, but none says "free-threaded"."""
        there = self._options.interpreters.get(target.python)
        if there is not None:
            return there
        return (
            free_threaded.stand_in(place / "interpreter")
            if target.is_free_threaded
            else sys.executable
        )

    def _clean(self, text: str, place: Path | None) -> str:
        """Uv's own words without secrets, and without the name of our temporary project."""
        text = redact(text, self._credentials)
        if place is not None:
            text = text.replace(f"{place}{os.sep}", "")
        return "\n".join(line.rstrip() for line in text.splitlines() if _matters(line)).strip()


def find_uv() -> str:
    """The uv executable of the package `uv` that is installed with us: pinned, and not whatever PATH has."""
    import uv  # noqa: PLC0415

    return os.fspath(uv.find_uv_bin())


def uv_version_here() -> str:
    """The version of that uv, such as "0.13.9"."""
    from importlib.metadata import version  # noqa: PLC0415

    return version("uv")


def _write_project(  # noqa: PLR0913 - what makes up a project
    place: Path,
    script: Script,
    full_version: str,
    settings: Mapping[str, object],
    *,
    drop: Mapping[str, str],
    add: Collection[str],
) -> None:
    """Write the header as `pyproject.toml`, without the packages in *drop* (already known to have no usable file).

    Those in *add* become dependencies of their own, so that uv heeds the script's sources for them.
    """
    tool = dict(settings)
    if drop:
        excluded = tool.get("exclude-dependencies")
        tool["exclude-dependencies"] = [*(excluded if isinstance(excluded, list) else []), *drop]
    project = {
        "name": f"script-{canonicalize_name(re.sub(r'[^A-Za-z0-9]+', '-', script.name)).strip('-') or 'unnamed'}",
        "version": "0",
        # The target decides the Python; what the script says of it was held against the target before.
        "requires-python": f">={full_version}",
        "dependencies": [
            *(
                uv_settings.absolute_requirement(text, script.path.resolve().parent)
                for text in script.dependencies
            ),
            *sorted(add),
        ],
    }
    document = {"project": project, "tool": {"uv": tool}}
    (place / "pyproject.toml").write_text(tomli_w.dumps(document), encoding="utf-8")


def _reached(names: Collection[str], lock: Path, text: str) -> set[str]:
    """Which of *names* a run of uv came upon: they are in its lock or, where it failed, in its words (*text*)."""
    if not names:
        return set()
    if lock.is_file():
        return {str(package.name) for package in _read_lock(lock).packages} & set(names)
    return {name for name in names if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)}


def _read_lock(path: Path) -> Pylock:
    from packaging.pylock import Pylock  # noqa: PLC0415 - slow to import: `offline_bundle.builder.pipeline` loads it while uv runs

    document = tomllib.loads(path.read_text(encoding="utf-8"))
    for package in document.get("packages", []):
        for key in ("directory", "archive"):
            if "path" in package.get(key, {}):
                package[key]["path"] = str((path.parent / package[key]["path"]).resolve())
        for wheel in [
            *package.get("wheels", []),
            *([package["sdist"]] if "sdist" in package else []),
        ]:
            if "path" in wheel:
                wheel["path"] = str((path.parent / wheel["path"]).resolve())
    return Pylock.from_dict(document)


def _named_places(script: Script, settings: Mapping[str, object]) -> set[str]:
    """Names of the packages that the script takes from a git repository, a URL or a folder."""
    sources = settings.get("sources")
    lists = [settings.get(f"{kind}-dependencies") for kind in ("constraint", "override")]
    requirements = [
        *script.dependencies,
        *(text for entries in lists if isinstance(entries, list) for text in entries),
    ]
    names = {canonicalize_name(name) for name in (sources if isinstance(sources, dict) else ())}
    return names | {uv_settings.name_of(text) for text in requirements if "@" in text}


def _need_build(text: str) -> set[str]:
    """Packages that uv could only take from source."""
    names = re.findall(
        r"Wheels are required for `([^`]+)` because building from source is disabled", text
    )
    names += re.findall(r"Building source distributions for `([^`]+)` is disabled", text)
    return {canonicalize_name(name) for name in names}


def _need_other_wheels(text: str) -> set[str]:
    """Packages whose wheels do not fit the target."""
    names = re.findall(r"Wheels are available for `([^`]+)`", text)
    names += re.findall(
        r"\b(?:Because|because|and) (?:only )?([A-Za-z0-9._-]+?)(?:[=<>!~].*?)? has no wheels with a matching",
        text,
    )
    return {canonicalize_name(name) for name in names}


_UNSOLVABLE_HINT = "change the script's dependencies or requires-python, or the indexes and dates it is resolved by"


def _failure(script: Script, target: Target, text: str, credentials: Credentials) -> BundleError:
    where = f"{script.path} cannot be resolved for {target.name}"
    words = " ".join(text.split())  # uv breaks lines anywhere
    refusal = _REFUSAL.search(words)
    if refusal:
        url = refusal["index"] or refusal["file"]
        return FetchError(
            f"{where}: {url} is not for us to read",
            problems=text.splitlines(),
            hint=credentials.advice(url),
        )
    if "No solution found" in words:
        return ResolveError(where, problems=text.splitlines(), hint=_UNSOLVABLE_HINT)
    named = _named_failure(where, text, words)
    if named is not None:
        return named
    if _UNREACHABLE.search(words):
        return FetchError(
            f"{where}: an index could not be asked",
            problems=text.splitlines(),
            hint="check the index's address, the proxy (HTTPS_PROXY), certificates (SSL_CERT_FILE) and credentials",
        )
    if _UNBUILDABLE.search(words):
        return FetchError(
            f"{where}: a source distribution could not be built",
            problems=text.splitlines(),
            hint="build it where its compilers and libraries are, or depend on a version that has wheels",
        )
    return ResolveError(where, problems=text.splitlines(), hint=_UNSOLVABLE_HINT)


def _named_failure(where: str, text: str, words: str) -> BundleError | None:
    """The error where what the script itself names is not there: a repository, a file, a folder, or a version of uv."""
    problems = text.splitlines()
    repository, file = _NO_REPOSITORY.search(words), _NO_FILE.search(words)
    if repository:
        hint = (
            "check the repository's address and the branch, tag, commit or folder in it; `git ls-remote` of the "
            "address must work on this machine, without a prompt"
        )
        return ResolveError(
            f"{where}: {repository['what']} cannot be read", problems=problems, hint=hint
        )
    if file:
        kind = ResolveError if _GONE.search(words) else FetchError
        hint = "check the address in the script; this machine must reach it (HTTPS_PROXY, SSL_CERT_FILE)"
        return kind(f"{where}: {file['what']} cannot be fetched", problems=problems, hint=hint)
    if "Distribution not found at" in words or "does not appear to be a Python project" in words:
        hint = "check the path in the script: it is taken from the folder that the script is in, and leads to a project"
        return ResolveError(where, problems=problems, hint=hint)
    if "Required uv version" in words:
        hint = "change `required-version` in [tool.uv], or use an offline-bundle that comes with that uv"
        return ResolveError(where, problems=problems, hint=hint)
    return None


def _unusable(script: Script, target: Target, missing: Mapping[str, str]) -> BundleError:
    """The error for all packages without a file that the target can use: exit 4 if building would help, else exit 3."""
    sources = [name for name, text in missing.items() if not text]
    unfit = [name for name, text in missing.items() if text]
    problems = [
        f"{name}: no wheel fits, only a source distribution, and building is not allowed"
        for name in sources
    ]
    problems += [f"{name}: {_available(name, missing[name])}" for name in unfit]
    hints = []
    if sources:
        hints.append(
            "add "
            + " ".join(f"--allow-build {name}" for name in sources)
            + " (it runs code of the package on this machine)"
        )
    hints.append(
        "or try a newer libc floor (--python-platform) or another Python (--python-version)"
    )
    kind = NotBuiltError if sources else NoWheelError
    error = kind(
        f"{script.path} for {target.name}: no file that fits the target for {', '.join([*sources, *unfit])}",
        problems=problems,
        hint=", ".join(hints),
    )
    error.packages = frozenset(missing)
    return error


def _available(name: str, text: str) -> str:
    hint = re.search(rf"Wheels are available for `{re.escape(name)}`[^\n]*", text)
    return f"no wheel fits; {hint[0][0].lower()}{hint[0][1:]}" if hint else "no wheel fits"


def _yanked(warnings: Sequence[str]) -> dict[str, str]:
    matches = (
        re.match(r"warning: `([^`=]+)==[^`]+` is yanked(?: \(reason: \"(.*)\"\))?", line)
        for line in warnings
    )
    return {canonicalize_name(match[1]): match[2] or "" for match in matches if match}


def _annotations(text: str) -> dict[str, str]:
    """Read `name==version` lines followed by `# from URL`."""
    indexes: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        requirement = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)", line)
        source = re.match(r"\s+# from (\S+)", line)
        if source and name:
            indexes[name] = source[1]
        elif requirement:
            name = canonicalize_name(requirement[1])
    return indexes


def _matters(line: str) -> bool:
    """False for what uv says of interpreters for building: the target's Python need not be on this machine."""
    return "will be used to build dependencies instead" not in line and not line.startswith(
        "Resolved "
    )
