"""uv's messages: which packages they name, and which error and exit code they mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.model import Resolution
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    InputError,
    NotBuiltError,
    NoWheelError,
    ResolveError,
)

# The index refused the credentials, or got none: uv goes on without what it cannot see.
_UNAUTHORIZED = re.compile(
    r"An index(?: URL)? \((?P<index>\S+)\) "
    r"(?:could not be queried due to a lack of valid auth|returned a 40[13])|"
    r"HTTP status client error \(40[13] [^)]*\) for url \((?P<file>\S+)\)"
)
_OPTION = re.compile(
    r"invalid value '[^']*' for '(?P<name>--[a-z-]+)[^']*': (?P<reason>.*?)(?: For more info|$)"
)
_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|network was disabled|Could not connect|client error|"
    r"(?:Missing|Unsupported) `Content-Type`|Received some unexpected (?:JSON|HTML) from"
)
_BUILD_FAILED = re.compile(
    r"Failed to (?:download and )?build|Build backend failed|"
    r"Failed to resolve requirements from `build"
)
# No space, no permission, quota and the like (errno values of Linux and macOS).
_MACHINE = re.compile(
    r"\(os error (?:1|5|12|13|24|28|30|69|116|122)\)|No space left on device|"
    r"Failed to initialize cache|Read-only file system"
)
_NO_REPOSITORY = re.compile(
    r"Failed to [a-z ]+ `(?P<requirement>[^`]+ @ git\+[^`]+)`"
    r".*(?:Git operation failed|has no subdirectory)"
)
_NO_FILE = re.compile(
    r"Failed to [a-z ]+ `(?P<requirement>[^`]+ @ (?P<url>https?://[^`#]+)[^`]*)`"
    r".*(?:Failed to fetch:|for url) \(?(?P=url)"
)
_GONE = re.compile(r"HTTP status client error \(4(?:04|10) ")
_BUILD_DISABLED = (
    r"Wheels are required for `([^`]+)` because building from source is disabled",
    r"Building source distributions for `([^`]+)` is disabled",
)
_OTHER_WHEELS = (
    r"Wheels are available for `([^`]+)`",
    (
        r"\b(?:Because|because|and) (?:only )?([A-Za-z0-9._-]+?)(?:[=<>!~].*?)? "
        r"has no wheels with a matching"
    ),
)
_UNSOLVABLE_HINT = (
    "change the script's dependencies or requires-python, or the indexes and dates of the build"
)
_NO_VERSIONS = re.compile(r"no versions of [\w.-]+(?:,| and\b)")
"""The index has a page for the package, without any file."""
_SCRIPT_HINTS = (
    (
        "Distribution not found at|does not appear to be a Python project",
        (
            "check the path in the script: it is relative to the script's folder, "
            "and must name a project"
        ),
    ),
    (
        "references an undeclared index",
        "name it in a [[tool.uv.index]] of the script: name = …, url = …",
    ),
    ("Failed to parse entry", "correct the package's entry in [tool.uv.sources]"),
    (
        "Required uv version",
        "change `required-version` in [tool.uv], or use an offline-bundle with that uv",
    ),
)
"""Pattern in uv's output -> hint, for other faults of the script."""
_MACHINE_HINT = "check space and permissions of UV_CACHE_DIR (default: ~/.cache/uv) and TMPDIR"


@dataclass(frozen=True)
class UvFailure:
    """A failed run of uv for *script* and *target*; *text* is its output without secrets."""

    script: Script
    target: Target
    text: str

    @property
    def lines(self) -> list[str]:
        """The output, for `problems` of an error."""
        return self.text.splitlines()

    @property
    def words(self) -> str:
        """The output on one line: uv breaks lines anywhere."""
        return " ".join(self.text.split())

    @property
    def title(self) -> str:
        """First words of every error."""
        return f"{self.script.path} cannot be resolved for {self.target.name}"


def packages_without_wheels(text: str) -> dict[str, bool]:
    """Return the packages without a wheel that fits; True for those that have a source."""
    sources = _names(_BUILD_DISABLED, text)
    return {name: name in sources for name in sorted(sources | _names(_OTHER_WHEELS, text))}


def packages_named(names: Collection[str], text: str) -> set[str]:
    """Return those of *names* that the output mentions."""
    return {name for name in names if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)}


def no_wheel_error(failure: UvFailure, packages: Mapping[str, bool]) -> BundleError:
    """Return the error for *packages* (see `packages_without_wheels`).

    NotBuiltError (exit 4) where a build may help, else NoWheelError (exit 3).
    """
    sources = [name for name, has_source in packages.items() if has_source]
    others = [name for name, has_source in packages.items() if not has_source]
    problems = [
        f"{name}: no wheel fits, only a source distribution, and building is not allowed"
        for name in sources
    ]
    problems += [f"{name}: {_available(name, failure.text)}" for name in others]
    flags = " ".join(f"--allow-build {name}" for name in sources)
    hint = "try a newer libc floor (--python-platform) or another Python (--python-version)"
    if sources:
        hint = f"add {flags} (it runs code of the package on this machine), or {hint}"
    error = (NotBuiltError if sources else NoWheelError)(
        f"{failure.script.path} for {failure.target.name}: "
        f"no file fits the target for {', '.join([*sources, *others])}",
        problems=[*problems, *failure.lines],
        hint=hint,
    )
    error.packages = frozenset(packages)
    return error


def resolve_error(failure: UvFailure, credentials: Credentials) -> BundleError:
    """Return the error for any other failure: exit 2, 3, 4, or 1 for the machine's own trouble."""
    if option := _OPTION.search(failure.words):
        hint = "correct it; see `build-offline-bundle --help`"
        return InputError(f"{option['name']}: {option['reason']}", hint=hint)
    unauthorized = _UNAUTHORIZED.search(failure.words)
    if unauthorized:
        url = unauthorized["index"] or unauthorized["file"]
        return FetchError(
            f"{failure.title}: authentication failed for {url}",
            problems=failure.lines,
            hint=credentials.advice(url),
        )
    if "No solution found" in failure.words:
        hint = _UNSOLVABLE_HINT
        if _NO_VERSIONS.search(failure.words):
            hint += "; a page without versions may be the sign-in page of an index or proxy"
        return ResolveError(failure.title, problems=failure.lines, hint=hint)
    return _requirement_error(failure) or _environment_error(failure)


def machine_error(message: str, text: str) -> BundleError | None:
    """Return the error (exit 1) where uv reports the machine's trouble, such as a full disk."""
    if not _MACHINE.search(" ".join(text.split())):
        return None
    return BundleError(message, problems=text.splitlines(), hint=_MACHINE_HINT)


def yanked_packages(warnings: Sequence[str]) -> dict[str, str]:
    """Return package name -> why it was yanked, out of uv's warnings."""
    matches = (
        re.match(r"warning: `([^`=]+)==[^`]+` is yanked(?: \(reason: \"(.*)\"\))?", line)
        for line in warnings
    )
    return {str(canonicalize_name(match[1])): match[2] or "" for match in matches if match}


def index_annotations(text: str) -> dict[str, str]:
    """Return package name -> index, out of `name==version` lines followed by `# from URL`."""
    return dict(_comments(text, r"\s+# from (\S+)"))


def notes_on_later_versions(resolution: Resolution, text: str) -> list[str]:
    """Return notes on versions in *text*, a lock for a later patch release of the same Python."""
    script, python = resolution.script, resolution.target.python
    versions = {str(package.name): str(package.version) for package in resolution.lock.packages}
    pins = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)", text, re.MULTILINE)
    return [
        f"{script.path}: on some releases of Python {python}, {name} {version} would be taken, not "
        f"{versions[name]}: the bundle is resolved for {resolution.full_version}; set "
        "requires-python to at least the release of the nodes"
        for name, version in pins
        if versions.get(name, version) != version
    ]


def packages_requiring(names: Collection[str], text: str) -> set[str]:
    """Return the packages that require one of *names*, out of the `# via` comments of a lock."""
    comments = _comments(text, r"\s+#(?: via)?\s+([A-Za-z0-9][A-Za-z0-9._-]*)$")
    return {str(canonicalize_name(other)) for name, other in comments if name in names}


def is_relevant(line: str) -> bool:
    """Return False for messages about interpreters to build with, and for statistics."""
    # The target's Python need not be on this machine.
    is_about_builds = "will be used to build dependencies instead" in line
    return not is_about_builds and not line.startswith("Resolved ")


def _requirement_error(failure: UvFailure) -> BundleError | None:
    """Return the error where a repository, file, folder or uv version in the script is missing."""
    lines, title = failure.lines, failure.title
    repository, file = _NO_REPOSITORY.search(failure.words), _NO_FILE.search(failure.words)
    if repository:
        hint = (
            "check the repository's address and the branch, tag, commit or folder in it; "
            "`git ls-remote` of the address must work on this machine, without a prompt"
        )
        message = f"{title}: {repository['requirement']} cannot be read"
        return ResolveError(message, problems=lines, hint=hint)
    if file:
        kind = ResolveError if _GONE.search(failure.words) else FetchError
        hint = (
            "check the address in the script; "
            "this machine must reach it (HTTPS_PROXY, SSL_CERT_FILE)"
        )
        return kind(f"{title}: {file['requirement']} cannot be fetched", problems=lines, hint=hint)
    for pattern, hint in _SCRIPT_HINTS:
        if re.search(pattern, failure.words):
            return ResolveError(title, problems=lines, hint=hint)
    return None


def _environment_error(failure: UvFailure) -> BundleError:
    """Return the error where this machine, an index or a build failed."""
    machine = machine_error(f"{failure.title}: uv reports trouble of this machine", failure.text)
    if machine is not None:
        return machine
    if _UNREACHABLE.search(failure.words):
        return FetchError(
            f"{failure.title}: could not reach an index",
            problems=failure.lines,
            hint="check the index's address, the proxy (HTTPS_PROXY), certificates "
            "(SSL_CERT_FILE) and credentials",
        )
    if "Failed to download `" in failure.words:
        return FetchError(
            f"{failure.title}: a wheel cannot be read",
            problems=failure.lines,
            hint="pin another version, or publish a correct wheel of it on an index of yours",
        )
    if _BUILD_FAILED.search(failure.words):
        return FetchError(
            f"{failure.title}: a source distribution could not be built",
            problems=failure.lines,
            hint="build it where its compilers and libraries are, or depend on a version "
            "that has wheels",
        )
    return unknown_error(failure)


def unknown_error(failure: UvFailure) -> BundleError:
    """Return the error (exit 1) for a failure that is not known to be the script's."""
    hint = "try `uv lock --script` with the script: it shows whether uv or the build fails"
    return BundleError(f"{failure.title}: uv failed", problems=failure.lines, hint=hint)


def _comments(text: str, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield each comment of a lock that matches, with the name of the package before it."""
    name = ""
    for line in text.splitlines():
        if requirement := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line):
            name = canonicalize_name(requirement[0])
        elif name and (comment := re.match(pattern, line)):
            yield name, comment[1]


def _names(patterns: Sequence[str], text: str) -> set[str]:
    names = [name for pattern in patterns for name in re.findall(pattern, text)]
    return {str(canonicalize_name(name)) for name in names}


def _available(name: str, text: str) -> str:
    hint = re.search(rf"Wheels are available for `{re.escape(name)}`[^\n]*", text)
    return f"no wheel fits; {hint[0][0].lower()}{hint[0][1:]}" if hint else "no wheel fits"
