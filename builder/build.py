"""The build, from scripts to a bundle: one function to read top to bottom, and its steps below it."""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from packaging.utils import canonicalize_name, parse_wheel_filename

from builder import uv_config
from builder.cache import DownloadCache
from builder.choose import Choice, choose, refuse_builds
from builder.closure import closure_problems, overridden_names
from builder.compose import LockedScript, NodeUv, WheelFile, compose
from builder.credentials import Credentials, without_credentials
from builder.fetch import Download, Fetched, FetchProgress, fetch, warm_up
from builder.resolve import Resolution, ResolveOptions, UvResolver
from builder.script import Script, read_scripts
from builder.target import Target, choose_python, host_platform, make_target
from wheelhouse import run
from wheelhouse.errors import BundleError, FetchError, InputError
from wheelhouse.manifest import Source
from wheelhouse.store import BundleWriter
from wheelhouse.wheel import metadata_of_wheel, parse_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.build_wheel import WheelBuilder
    from wheelhouse.manifest import BundledFile

_T = TypeVar("_T")
# uv processes side by side: they wait for the index more than they compute.
_RESOLVERS = 8


@dataclass(frozen=True)
class BuildRequest:
    """What the user asks for."""

    scripts: tuple[Path, ...]
    output: Path
    python_versions: tuple[str, ...] = ()
    """Minors such as "3.12"; empty: chosen from each script's requires-python."""
    platforms: tuple[str, ...] = ()
    """In uv's words; empty: this machine."""
    options: ResolveOptions = field(default_factory=ResolveOptions)
    uv_version: str | None = None
    """The uv to put in for the nodes; None leaves it out."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did."""

    output: Path
    locks: tuple[LockedScript, ...]
    files: int
    """Files in the bundle now."""
    size: int
    """Their bytes."""
    fetched: int
    """Files that came over the network."""
    fetched_size: int
    from_cache: int
    """Files that an earlier build had fetched already."""
    built: tuple[str, ...]
    """Names of the wheels built from source."""
    changed: bool
    """False when the bundle was up to date already."""
    notes: tuple[str, ...] = ()
    """What the user should know: rewritten version pins, yanked versions, uv's warnings."""


class BuildProgress(Protocol):
    """Somebody who is told what happens."""

    def step(self, text: str) -> None:
        """A step begins."""
        ...

    def waiting(self, directory: Path) -> None:
        """Another build holds the bundle."""
        ...

    @property
    def transfer(self) -> FetchProgress:
        """Who is told of the downloads."""
        ...


def build(request: BuildRequest, uv: str, progress: BuildProgress) -> BuildReport:
    """Make or extend the bundle at `request.output`; *uv* is the uv executable to resolve and build with.

    Raises InputError (2), ResolveError (3), FetchError (4), IntegrityError (5), BundleError (1); then the bundle in place is as it was.
    """
    threading.Thread(target=warm_up, daemon=True).start()
    scripts = read_scripts(request.scripts)
    work = _Work(request, scripts, uv, progress)
    with BundleWriter(request.output, on_wait=lambda: progress.waiting(request.output)) as writer:
        progress.step(f"Resolving {', '.join(script.path.name for script in scripts)}")
        resolutions, uv_resolutions = work.resolve(writer)
        choices = [choose(resolution) for resolution in resolutions]
        refuse_builds(zip(resolutions, choices, strict=True), request.options.allows)
        uv_choices = [choose(resolution) for resolution in uv_resolutions]
        indexes = work.look_up_indexes([*resolutions, *uv_resolutions], [*choices, *uv_choices], writer)
        files = work.fetch([choice for group in [*choices, *uv_choices] for choice in group], writer)
        locks = [
            LockedScript(resolution, work.wheels(resolution, group, files, indexes, writer))
            for resolution, group in zip(resolutions, choices, strict=True)
        ]
        _check_closures(locks)
        uvs = [
            work.node_uv(resolution, group[0], files, indexes)
            for resolution, group in zip(uv_resolutions, uv_choices, strict=True)
        ]
        composition = compose(writer.current, locks, uvs, launcher=_launcher(), epoch=_source_date_epoch())
        changed = writer.commit(composition.manifest, composition.contents)
    return work.report(locks, composition.manifest.files, files, changed=changed)


class _Work:
    """One build in progress: the request and what all its steps share."""

    def __init__(self, request: BuildRequest, scripts: Sequence[Script], uv: str, progress: BuildProgress) -> None:
        self._scripts = scripts
        self._progress = progress
        self._request = request
        locations = [location for script in scripts for location in uv_config.index_locations(script.settings)]
        flags = [*request.options.indexes, *request.options.find_links, *filter(None, [request.options.default_index])]
        self._credentials = Credentials.for_indexes([*locations, *map(uv_config.split_index, flags)], os.environ)
        self._pairs = self._choose_targets()
        self._options = replace(request.options, interpreters=self._interpreters())
        self._resolver = UvResolver(uv, self._options, self._credentials)
        self._uv_resolver = UvResolver(
            uv, replace(self._options, exclude_newer=None, constraints=()), self._credentials
        )
        self._uv = uv
        self._notes: dict[str, None] = {}
        self._built: dict[str, None] = {}
        self._cache_root = Path(run.cache_directory())

    def resolve(self, writer: BundleWriter) -> tuple[list[Resolution], list[Resolution]]:
        """All locks, resolved side by side: of the scripts, and of the uv for each platform that lacks it."""
        uv_targets = self._uv_targets([target for _, target in self._pairs], writer)
        with ThreadPoolExecutor(_RESOLVERS) as pool:
            of_scripts = [pool.submit(self._resolver.resolve, script, target) for script, target in self._pairs]
            of_uv = [pool.submit(self._uv_resolver.resolve, self._uv_script(), target) for target in uv_targets]
            resolutions = _gather(of_scripts)
            try:
                uv_resolutions = _gather(of_uv)
            except BundleError as error:
                raise type(error)(
                    f"uv {self._request.uv_version} for the nodes: {error.message}",
                    problems=error.problems,
                    hint="name another one with --uv-version, or leave it out with --no-uv",
                ) from error
        for resolution in resolutions:
            self._notes |= {f"{resolution.script.path}: {warning}": None for warning in resolution.warnings}
        return resolutions, uv_resolutions

    def look_up_indexes(
        self, resolutions: Sequence[Resolution], choices: Sequence[Sequence[Choice]], writer: BundleWriter
    ) -> Mapping[str, Future[dict[str, str]]]:
        """Ask, while the files come in, which index each package came from; not where the bundle knows it already."""
        pool = ThreadPoolExecutor(2)
        pending = {}
        for resolution, group in zip(resolutions, choices, strict=True):
            if any(_held(choice, writer) is None for choice in group):
                resolver = (
                    self._uv_resolver
                    if resolution.script.name == "uv" and not resolution.script.source
                    else self._resolver
                )
                pending[_lock_key(resolution)] = pool.submit(resolver.index_of, resolution)
        pool.shutdown(wait=False)
        return pending

    def fetch(self, choices: Sequence[Choice], writer: BundleWriter) -> dict[str, Fetched]:
        """Every wheel and sdist that the bundle does not hold, by location."""
        wanted = {
            choice.location: Download(
                url=choice.location
                if choice.location.startswith(("http", "file:"))
                else Path(choice.location).as_uri(),
                filename=choice.filename,
                hashes=choice.hashes,
                size=choice.size,
            )
            for choice in choices
            if choice.kind in {"wheel", "sdist"} and _held(choice, writer) is None
        }
        cache = DownloadCache(self._cache_root)
        fetched = fetch(list(wanted.values()), cache, credentials=self._credentials, progress=self._progress.transfer)
        return dict(zip(wanted, fetched, strict=True))

    def wheels(
        self,
        resolution: Resolution,
        choices: Sequence[Choice],
        files: Mapping[str, Fetched],
        indexes: Mapping[str, Future[dict[str, str]]],
        writer: BundleWriter,
    ) -> tuple[WheelFile, ...]:
        """The wheels of one lock: held by the bundle, fetched, or built."""
        pending = indexes.get(_lock_key(resolution))
        index_of = pending.result() if pending else {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = [
                pool.submit(
                    self._wheel, resolution, choice, files.get(choice.location), index_of.get(choice.name), writer
                )
                for choice in choices
            ]
            wheels = _gather(made)
        return tuple(sorted(wheels, key=lambda wheel: wheel.name))

    def node_uv(
        self,
        resolution: Resolution,
        choice: Choice,
        files: Mapping[str, Fetched],
        indexes: Mapping[str, Future[dict[str, str]]],
    ) -> NodeUv:
        """The executable out of uv's own wheel."""
        is_windows = resolution.target.system == "windows"
        fetched = files[choice.location]
        member = f"uv-{choice.version}.data/scripts/uv{'.exe' if is_windows else ''}"
        with zipfile.ZipFile(fetched.path) as archive:
            executable = archive.read(member)
        index = indexes[_lock_key(resolution)].result().get("uv")
        source = Source(index=_public(index), url=_public(choice.location), built_from=None)
        return NodeUv(resolution.target.platform, choice.version or "", executable, source, is_windows)

    def report(
        self,
        locks: Sequence[LockedScript],
        files: Mapping[str, BundledFile],
        fetched: Mapping[str, Fetched],
        *,
        changed: bool,
    ) -> BuildReport:
        """Sum up."""
        transferred = [file for file in fetched.values() if not file.from_cache]
        return BuildReport(
            output=self._request.output,
            locks=tuple(locks),
            files=len(files),
            size=sum(file.size or 0 for file in files.values()),
            fetched=len(transferred),
            fetched_size=sum(file.size for file in transferred),
            from_cache=len(fetched) - len(transferred),
            built=tuple(self._built),
            changed=changed,
            notes=tuple(self._notes),
        )

    def _wheel(
        self, resolution: Resolution, choice: Choice, fetched: Fetched | None, index: str | None, writer: BundleWriter
    ) -> WheelFile:
        if choice.kind != "wheel":
            return self._built_wheel(resolution, choice, fetched, index)
        held = _held(choice, writer)
        if held is not None and writer.current is not None:
            known = writer.current.files[f"wheels/{choice.filename}"]
            source = known.source or Source()
            path, sha256, size = held, known.sha256 or "", known.size or 0
        elif fetched is not None:
            path, sha256, size = fetched.path, fetched.sha256, fetched.size
            source = _source(choice, index)
        else:
            raise AssertionError(choice)
        wheel = _read_wheel(choice.filename, path, sha256, size, source, writer)
        return replace(wheel, upload_time=choice.upload_time, yanked=resolution.yanked.get(choice.name))

    def _built_wheel(
        self, resolution: Resolution, choice: Choice, fetched: Fetched | None, index: str | None
    ) -> WheelFile:
        built = self._wheel_builder().build(choice, resolution, fetched.path if fetched else None)
        self._built[built.path.name] = None
        data = built.path.read_bytes()
        source = replace(_source(choice, index), built_from=built.source_sha256)
        digest = hashlib.sha256(data).hexdigest()
        return _read_wheel(built.path.name, built.path, digest, len(data), source, None, resolution=resolution)

    def _wheel_builder(self) -> WheelBuilder:
        from builder.build_wheel import WheelBuilder  # noqa: PLC0415 - most builds build no wheel

        return WheelBuilder(self._uv, self._options, self._cache_root, self._credentials)

    def _choose_targets(self) -> list[tuple[Script, Target]]:
        """Every script with every target that was asked for; all faults are reported together."""
        platforms = self._request.platforms or (host_platform(),)
        pairs: list[tuple[Script, Target]] = []
        problems: list[str] = []
        for script in self._scripts:
            try:
                pythons = self._request.python_versions or (self._choose_python(script),)
                targets = [make_target(python, platform) for python in pythons for platform in platforms]
                for target in targets:
                    target.full_version(script.requires_python)
            except InputError as error:
                problems.append(f"{script.path}: {error.message}" + (f"; {error.hint}" if error.hint else ""))
            else:
                pairs += [(script, target) for target in dict.fromkeys(targets)]
        if problems:
            raise InputError("no target for some of the scripts", problems=problems)
        return pairs

    def _choose_python(self, script: Script) -> str:
        return choose_python(script.requires_python, _has_interpreter)

    def _interpreters(self) -> dict[str, str]:
        """An interpreter for each target's Python, where something may have to be built."""
        builds = self._request.options.allow_build or any(
            uv_config.local_sources(script.settings) or any("@" in text for text in script.dependencies)
            for script in self._scripts
        )
        wanted = {target.python for _, target in self._pairs if target.runs_here} if builds else set()
        found = {python: _interpreter(python) for python in wanted if not python.endswith("t")}
        return {python: path for python, path in found.items() if path}

    def _uv_targets(self, targets: Iterable[Target], writer: BundleWriter) -> list[Target]:
        wanted = {}
        for target in targets if self._request.uv_version else ():
            platform = f"{target.architecture}-manylinux_2_17" if target.system == "linux-gnu" else target.platform
            known = writer.current.uv.get(platform) if writer.current else None
            if known and known.version == self._request.uv_version:
                continue
            wanted[platform] = Target(target.python, platform)
        return list(wanted.values())

    def _uv_script(self) -> Script:
        """Uv as if it were a script's one dependency, from the scripts' own indexes."""
        settings = {
            key: value for script in self._scripts for key, value in script.settings.items() if key in _INDEX_SETTINGS
        }
        return Script(
            path=self._scripts[0].path.with_name("uv"),
            name="uv",
            source=b"",
            block="",
            dependencies=(f"uv=={self._request.uv_version}",),
            requires_python=None,
            metadata={"tool": {"uv": settings}},
        )


_INDEX_SETTINGS = {
    "index",
    "index-url",
    "extra-index-url",
    "find-links",
    "index-strategy",
    "keyring-provider",
    "allow-insecure-host",
    "native-tls",
    "system-certs",
}


def _interpreter(minor: str) -> str | None:
    major, _, rest = minor.partition(".")
    return run.find_interpreter((int(major), int(rest)))


def _has_interpreter(minor: str) -> bool:
    return _interpreter(minor) is not None


def _gather(futures: Sequence[Future[_T]]) -> list[_T]:
    """All results; or, when some failed, one error with what all of them said."""
    errors = [error for future in futures if isinstance(error := future.exception(), BundleError)]
    if not errors:
        return [future.result() for future in futures]
    first = min(errors, key=lambda error: error.exit_code)
    if len(errors) == 1:
        raise first
    problems = [line for error in errors for line in (error.message, *(f"  {problem}" for problem in error.problems))]
    hints = dict.fromkeys(error.hint for error in errors if error.hint)
    raise type(first)(f"{len(errors)} of {len(futures)} failed", problems=problems, hint="\n".join(hints) or None)


def _check_closures(locks: Sequence[LockedScript]) -> None:
    problems = []
    for lock in locks:
        resolution = lock.resolution
        wheels = {wheel.name: parse_metadata(wheel.metadata, where=wheel.filename) for wheel in lock.wheels}
        found = closure_problems(
            resolution.script.dependencies,
            wheels,
            resolution.target.environment(resolution.full_version),
            overridden_names(resolution.script.settings),
        )
        problems += [f"{lock.key}: {problem}" for problem in found]
    if problems:
        raise FetchError(
            "the files do not hold together: their own metadata asks for more than the index or the source said",
            problems=problems,
            hint="add what is missing to the script's dependencies, or pin another version",
        )


def _held(choice: Choice, writer: BundleWriter) -> Path | None:
    """The wheel in the bundle, when it holds it with the digest of the lock."""
    digest = choice.hashes.get("sha256")
    return writer.holds(f"wheels/{choice.filename}", digest) if choice.kind == "wheel" and digest else None


def _read_wheel(  # noqa: PLR0913
    filename: str,
    path: Path,
    sha256: str,
    size: int,
    source: Source,
    writer: BundleWriter | None,
    *,
    resolution: Resolution | None = None,
) -> WheelFile:
    """A wheel with its own metadata: from the sibling in the bundle when it is there already, else out of the wheel."""
    sibling = writer.directory / f"wheels/{filename}.metadata" if writer else None
    in_bundle = sibling is not None and path == sibling.with_name(filename) and sibling.is_file()
    metadata = sibling.read_bytes() if sibling is not None and in_bundle else metadata_of_wheel(path, filename)
    facts = parse_metadata(metadata, where=filename)
    if resolution is not None:
        _refuse_foreign_tags(filename, resolution)
    return WheelFile(
        filename=filename,
        path=path,
        sha256=sha256,
        size=size,
        name=canonicalize_name(facts.name),
        version=facts.version,
        metadata=metadata,
        requires_python=facts.requires_python,
        source=source,
    )


def _refuse_foreign_tags(filename: str, resolution: Resolution) -> None:
    """A wheel that was built here must fit the target: a build may name any tag."""
    if not parse_wheel_filename(filename)[3] & set(resolution.target.tags):
        raise FetchError(
            f"{filename} was built from source, and does not fit {resolution.target.name}",
            hint="the build backend decides the wheel's tags; publish a wheel for the target on an index of yours",
        )


def _source(choice: Choice, index: str | None) -> Source:
    """Where a choice came from, without credentials."""
    if choice.kind == "git":
        return Source(git=without_credentials(choice.location), commit=choice.commit)
    if choice.is_local:
        # The name only: a bundle does not tell how the folders of the machine that built it are called.
        return Source(path=Path(choice.location.removeprefix("file://")).name)
    return Source(index=_public(index), url=_public(choice.location))


def _public(url: str | None) -> str | None:
    return without_credentials(url) if url else None


def _lock_key(resolution: Resolution) -> str:
    return f"{resolution.script.path}/{resolution.target.name}"


def _launcher() -> bytes:
    """`run.py` as it stands beside us: what is reviewed is what runs."""
    return Path(run.__file__).read_bytes()


def _source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), seconds since 1970."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"SOURCE_DATE_EPOCH is not a number: {text}") from None
