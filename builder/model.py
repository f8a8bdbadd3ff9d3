"""What a build is asked for, plans, resolves, reports, and how it reports progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.fetch.model import FetchProgress, TlsSettings
from offline_bundle.builder.headers.model import HeaderRequest
from offline_bundle.builder.included_data import IncludedData
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target
from offline_bundle.builder.resolve.cuda import cuda_notes
from offline_bundle.builder.resolve.model import Artifact, Resolution, ResolveOptions, Resolver
from offline_bundle.wheelhouse.derived.audit_result import Audit
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from offline_bundle.builder.compose import LockedScript
    from offline_bundle.builder.extras.python_builds import PythonBuild
    from offline_bundle.builder.resolve.uv_lockfile import ScriptLock
    from offline_bundle.wheelhouse.audit.criteria import Criteria
    from offline_bundle.wheelhouse.audit.provenance import AttestationVerifier


@dataclass(frozen=True)
class ReviewOptions:
    """What the user asks to review."""

    audit: bool = False
    """Request the advisories of the indexes' JSON APIs."""
    osv_server: str | None = None
    """URL of an OSV server to request advisories from."""
    attested: frozenset[str] = frozenset()
    """Packages whose attestations are fetched: normalized names, or `:all:`."""
    required: frozenset[str] = frozenset()
    """Packages that must have an attestation, in the same way."""
    policy: Path | None = None
    exceptions: Path | None = None
    trusted_root: Path | None = None
    """Trusted root of a Sigstore; None for the public one."""

    def __post_init__(self) -> None:
        """Refuse exceptions that nothing would read."""
        if self.exceptions is not None and not self.needs_audit:
            raise InputError(
                "--exceptions has no effect without an audit",
                hint="give --audit, --osv-server or --policy too",
            )

    @property
    def asks_servers(self) -> bool:
        """Return whether advisories are requested."""
        return self.audit or self.osv_server is not None

    @property
    def needs_audit(self) -> bool:
        """Return whether the bundle is audited before it is written."""
        return self.asks_servers or self.policy is not None


@dataclass(frozen=True)
class ReviewPlan:
    """Options with their files read."""

    options: ReviewOptions
    criteria: Criteria
    """Rules and exceptions of the site."""
    attested: frozenset[str]
    """Packages whose attestations are fetched, by an option or a rule."""
    verifier: AttestationVerifier | None
    """None if no attestation is needed."""


@dataclass(frozen=True)
class BuildRequest:
    """What the user asks for."""

    scripts: tuple[Path, ...]
    output: Path
    python_versions: tuple[str, ...] = ()
    """Minor versions such as "3.12"; empty: chosen from each script's requires-python."""
    platforms: tuple[str, ...] = ()
    """As uv names them; empty: this machine."""
    nodes: tuple[Path, ...] = ()
    """Node files (`inputs.node_file`); the targets are then theirs."""
    options: ResolveOptions = field(default_factory=ResolveOptions)
    resolver: Literal["uv", "pip-tools"] = "uv"
    uv_version: str | None = None
    """The uv for the nodes; None leaves it out."""
    is_uv_default: bool = False
    """True if the uv version is the default; an existing version is then kept."""
    is_locked: bool = False
    """Take the locks in the bundle, or a uv lock beside a script; resolve nothing anew."""
    with_python: bool = False
    """Include an interpreter for each target."""
    formats: tuple[str, ...] = ("index",)
    """Names in `formats.registry`; formats that the bundle has are kept in any case."""
    with_bytecode: bool = True
    """Include bytecode of the wheels; False removes it from the bundle."""
    review: ReviewOptions = field(default_factory=ReviewOptions)
    settings: Path | None = None
    """A file of settings to include: defaults for the commands that use the bundle."""
    header: HeaderRequest = field(default_factory=HeaderRequest)
    """Files that replace the header of scripts without one."""
    strict_imports: bool = False
    """Raise InputError for imports that nothing provides, instead of notes."""
    include: tuple[str, ...] = ()
    """Files and folders for `data/`: `PATH` or `NAME=PATH`; empty: those of the bundle stay."""
    sign: Callable[[bytes], bytes] | None = None
    """Signs the manifest (`wheelhouse.signing.signing_with`)."""


@dataclass(frozen=True)
class BuildPlan:
    """A request with its files read and its targets chosen; no index was contacted."""

    request: BuildRequest
    uv: str
    """The uv executable to resolve and build with."""
    scripts: tuple[Script, ...]
    pairs: Sequence[tuple[Script, Target]]
    options: ResolveOptions
    credentials: Credentials
    tls: TlsSettings
    script_locks: Mapping[str, ScriptLock]
    """uv's locks beside the scripts, by script name."""
    review: ReviewPlan | None
    """None if nothing is reviewed before the bundle is written."""
    notes: Sequence[str] = ()
    data: IncludedData = field(default_factory=IncludedData)
    """Files and folders to include."""

    @property
    def first_step(self) -> str:
        """What a build does first, for the progress display."""
        names = ", ".join(script.path.name for script in self.scripts)
        return f"{'Reading the locks of' if self.request.is_locked else 'Resolving'} {names}"


@dataclass(frozen=True)
class ResolvedLock:
    """One lock, and the artifact selected for each of its packages."""

    resolver: Resolver
    resolution: Resolution
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Resolved:
    """All that goes into the bundle, named and not yet fetched."""

    locks: Sequence[ResolvedLock]
    uv: Sequence[ResolvedLock]
    """uv for the nodes: one artifact each."""
    pythons: Mapping[Target, PythonBuild]
    """Interpreters to add."""
    base: Manifest | None
    """The manifest to extend: the one in force, without what has to be made again."""
    locked: Manifest | None = None
    """The manifest in force, if its locks must lead to the same files."""
    corrupt: frozenset[str] = frozenset()
    """Files of the bundle to restore."""
    orphaned_wheels: Sequence[Artifact] = ()
    """Corrupt wheels that no script needs."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages for the user, such as yanked versions and uv's other warnings."""
        resolutions = [lock.resolution for lock in self.locks]
        notes = [
            f"{resolution.script.path}: {text}"
            for resolution in resolutions
            for text in resolution.warnings
        ]
        notes += [
            f"{lock.resolution.script.path}: {text}"
            for lock in self.locks
            for text in cuda_notes(lock.resolution, lock.artifacts)
        ]
        notes += [
            f"{resolution.script.path.name} contains a password, which the bundle leaves out"
            for resolution in resolutions
            if resolution.script.bundled != resolution.script.source
        ]
        return tuple(dict.fromkeys(notes))


@dataclass(frozen=True)
class BuildReport:
    """What a build did."""

    output: Path
    locks: tuple[LockedScript, ...]
    files: int
    """Number of files in the bundle."""
    size: int
    """Their bytes."""
    fetched: int
    """Number of files that came over the network."""
    fetched_size: int
    from_cache: int
    """Number of files that an earlier build had fetched."""
    built: tuple[str, ...]
    """Names of the wheels built from source."""
    kept: tuple[str, ...]
    """Names of those kept from an earlier build."""
    changed: bool
    """False when the bundle was up to date."""
    unneeded: int = 0
    """Number of files that no script needs; `prune` removes them."""
    unneeded_size: int = 0
    """Their bytes."""
    notes: tuple[str, ...] = ()
    """Messages for the user, such as yanked versions and uv's other warnings."""
    audit: Audit | None = None
    """None if no audit was asked for."""


class BuildProgress(FetchProgress, Protocol):
    """Receives the progress of a build and of its downloads."""

    def step(self, text: str) -> None:
        """Start a step."""
