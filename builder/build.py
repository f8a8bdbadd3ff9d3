"""The build, from scripts to a bundle: one function to read top to bottom, and its steps below it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import wheelhouse
from builder import node_uv, uv_config
from builder.choose import Choice, choose, refuse_builds
from builder.collect import Collector, Index, check_closures, source_of
from builder.compose import LockedScript, compose
from builder.credentials import Credentials
from builder.fetch import FetchProgress, warm_up
from builder.node import read_node
from builder.plan import builders_for, pair_up
from builder.resolve import Resolution, ResolveOptions, Resolver, UvResolver
from builder.script import Script, read_scripts
from builder.stored_logins import StoredLogins
from wheelhouse import prepare
from wheelhouse.errors import BundleError, InputError
from wheelhouse.gather import gather
from wheelhouse.inventory import add_inventories, metadata_of
from wheelhouse.store import BundleWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.target import Target
    from builder.trust import Trust
    from wheelhouse.manifest import Manifest

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
    nodes: tuple[Path, ...] = ()
    """Descriptions of nodes (`builder.node`): then the targets are theirs."""
    options: ResolveOptions = field(default_factory=ResolveOptions)
    uv_version: str | None = None
    """The uv to put in for the nodes; None leaves it out."""
    is_uv_default: bool = False
    """Whether that version was not asked for: then it replaces no other in the bundle."""
    sign: Callable[[bytes], bytes] | None = None
    """Signs the manifest (`wheelhouse.signature.signature_of`)."""


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
    """What the user should know, such as yanked versions and uv's other warnings."""


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

    Raises InputError (2), ResolveError (3), FetchError (4), IntegrityError (5) or BundleError (1); the bundle in place
    is then as it was.
    """
    threading.Thread(target=warm_up, daemon=True).start()
    prepared = prepare_request(request, uv)
    with BundleWriter(request.output, on_wait=lambda: progress.waiting(request.output)) as writer:
        progress.step(f"Resolving {', '.join(script.path.name for script in prepared.scripts)}")
        resolved = resolve_request(request, prepared, uv, writer.current)
        resolutions, choices = resolved.resolutions, resolved.choices
        uv_resolutions, uv_choices = resolved.uv_resolutions, resolved.uv_choices

        collector = Collector(
            writer, Path(prepare.cache_directory()), prepared.credentials, uv, prepared.options, prepared.trust
        )
        indexes = [_ask_indexes(resolved.resolver, *pair, collector) for pair in zip(resolutions, choices, strict=True)]
        uv_indexes = [_ask_indexes(resolved.uv_resolver, resolution, [choice], collector)
                      for resolution, choice in zip(uv_resolutions, uv_choices, strict=True)]  # fmt: skip
        collector.fetch([*(choice for group in choices for choice in group), *uv_choices], progress.transfer)
        progress.step(f"Checking and writing {request.output}")
        locks = [collector.lock(*triple) for triple in zip(resolutions, choices, indexes, strict=True)]
        check_closures(locks, writer.current)
        uvs = [_node_uv(collector, *triple) for triple in zip(uv_resolutions, uv_choices, uv_indexes, strict=True)]

        composition = compose(writer.current, locks, uvs, launcher=launcher(), epoch=_source_date_epoch())
        manifest, inventories = add_inventories(
            composition.manifest,
            lambda: metadata_of(composition.manifest, composition.contents, request.output),
            writer.current,
        )
        changed = writer.commit(manifest, {**composition.contents, **inventories}, sign=request.sign)
    transferred = [file for file in collector.fetched.values() if not file.from_cache]
    return BuildReport(
        output=request.output,
        locks=tuple(locks),
        files=len(manifest.files),
        size=sum(file.size or 0 for file in manifest.files.values()),
        fetched=len(transferred),
        fetched_size=sum(file.size for file in transferred),
        from_cache=len(collector.fetched) - len(transferred),
        built=tuple(collector.built),
        changed=changed,
        notes=resolved.notes,
    )


@dataclass(frozen=True)
class Prepared:
    """A request read and planned, before anything is asked of an index."""

    scripts: tuple[Script, ...]
    pairs: Sequence[tuple[Script, Target]]
    options: ResolveOptions
    credentials: Credentials
    trust: Trust


def prepare_request(request: BuildRequest, uv: str) -> Prepared:
    """Read the scripts and plan their targets. Raises InputError (2) or ResolveError (3)."""
    scripts = read_scripts(request.scripts)
    pairs = pair_up(scripts, request.python_versions, request.platforms, [read_node(path) for path in request.nodes])
    options = replace(request.options, interpreters=builders_for(pairs, is_building=bool(request.options.allow_build)))
    credentials = _credentials(scripts, options, uv)
    return Prepared(scripts, pairs, options, credentials, uv_config.trust(scripts, options.insecure_hosts))


@dataclass(frozen=True)
class Resolved:
    """Everything that is to go into the bundle, named and not yet fetched."""

    resolver: Resolver
    resolutions: Sequence[Resolution]
    choices: Sequence[tuple[Choice, ...]]
    """Of each resolution."""
    uv_resolver: Resolver
    uv_resolutions: Sequence[Resolution]
    uv_choices: Sequence[Choice]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, such as yanked versions and uv's other warnings."""
        texts = (f"{entry.script.path}: {text}" for entry in self.resolutions for text in entry.warnings)
        return tuple(dict.fromkeys(texts))


def resolve_request(request: BuildRequest, prepared: Prepared, uv: str, current: Manifest | None) -> Resolved:
    """Resolve all scripts for all targets, and what the bundle in force (*current*) lacks of uv for the nodes.

    Raises ResolveError (3) or FetchError (4).
    """
    scripts, options, credentials = prepared.scripts, prepared.options, prepared.credentials
    resolver = UvResolver(uv, options, credentials)
    uv_resolver = UvResolver(uv, replace(options, exclude_newer=None, constraints=()), credentials)
    uv_targets = node_uv.lacking(
        [target for _, target in prepared.pairs], request.uv_version, current, is_default=request.is_uv_default
    )
    uv_pairs = [(node_uv.as_script(request.uv_version, scripts), target) for target in uv_targets]
    resolutions, uv_resolutions = _resolve(resolver, prepared.pairs, uv_resolver, uv_pairs)
    choices = [choose(resolution) for resolution in resolutions]
    refuse_builds(zip(resolutions, choices, strict=True), options.allows)
    uv_choices = [choose(resolution)[0] for resolution in uv_resolutions]
    return Resolved(resolver, resolutions, choices, uv_resolver, uv_resolutions, uv_choices)


def _credentials(scripts: Sequence[Script], options: ResolveOptions, uv: str) -> Credentials:
    """Those of every index that the scripts, the flags, uv's configuration or its environment name."""
    ask = StoredLogins(uv, asks_keyring=uv_config.asks_keyring(scripts))
    locations = [location for script in scripts for location in uv_config.index_locations(script.settings)]
    flags = [*options.indexes, *options.find_links, *filter(None, [options.default_index])]
    return Credentials.for_indexes([*locations, *map(uv_config.split_index, flags)], os.environ, ask)


def _resolve(
    resolver: Resolver,
    pairs: Sequence[tuple[Script, Target]],
    uv_resolver: Resolver,
    uv_pairs: Sequence[tuple[Script, Target]],
) -> tuple[list[Resolution], list[Resolution]]:
    """All locks, resolved side by side: of the scripts, and of the uv for the nodes."""
    with ThreadPoolExecutor(_RESOLVERS) as pool:
        of_scripts = [pool.submit(resolver.resolve, script, target) for script, target in pairs]
        of_uv = [pool.submit(uv_resolver.resolve, script, target) for script, target in uv_pairs]
        resolutions = gather(of_scripts)
        try:
            return resolutions, gather(of_uv)
        except BundleError as error:
            raise type(error)(
                f"the uv for the nodes: {error.message}",
                problems=error.problems,
                hint="name another one with --uv-version, or leave it out with --no-uv",
            ) from error


def _ask_indexes(
    resolver: Resolver, resolution: Resolution, choices: Sequence[Choice], collector: Collector
) -> Future[Index] | None:
    """Ask, while the files come in, which index each package came from; not where the bundle knows it already."""
    if all(collector.holds(choice) for choice in choices):
        return None
    answer: Future[Index] = Future()

    def ask() -> None:
        try:
            answer.set_result(resolver.index_of(resolution))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the answer gets it
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return answer


def _node_uv(
    collector: Collector, resolution: Resolution, choice: Choice, index: Future[Index] | None
) -> node_uv.NodeUv:
    found = index.result().get("uv") if index else None
    wheel = collector.fetched[choice.location].path
    return node_uv.unpack(resolution.target.platform, choice, wheel, source_of(choice, found))


def launcher() -> dict[str, bytes]:
    """The launcher's files as they stand beside us: what is reviewed is what runs."""
    beside = Path(wheelhouse.__file__).parent
    return {name: (beside / name).read_bytes() for name in ("run.py", "prepare.py", "policy.py")}


def _source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), seconds since 1970."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"SOURCE_DATE_EPOCH is not a number: {text}") from None
