"""Review a bundle that is composed and not yet written: advisories from servers, and rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from offline_bundle.builder.compose import Composition
from offline_bundle.builder.model import BuildPlan, ReviewOptions, ReviewPlan
from offline_bundle.builder.review.advisory_servers import ask_index, ask_osv_server
from offline_bundle.builder.review.json_client import WORKERS, JsonClient, NoAnswerError
from offline_bundle.wheelhouse.audit.criteria import check_clean, repair_hint
from offline_bundle.wheelhouse.audit.findings import merge_findings, used_packages
from offline_bundle.wheelhouse.audit.osv.advisory import Advisory
from offline_bundle.wheelhouse.audit.subject import Reader
from offline_bundle.wheelhouse.derived.audit_result import INTERPRETER, Audit, Package
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.text import without_logins


def review(plan: BuildPlan, asked: ReviewPlan, composition: Composition) -> Audit:
    """Return the audit of the bundle to be.

    Raises AuditError (10) for an open vulnerability or a broken rule.
    """
    criteria, manifest = asked.criteria, composition.manifest
    read = composition_reader(composition, plan.request.output)
    uses = used_packages(manifest)
    answers = _ask_servers(plan, asked.options, manifest, uses)
    audit = Audit(
        bundle=str(plan.request.output),
        packages=len(uses),
        day=criteria.today,
        sources=answers.sources,
        advisories=answers.advisories if answers.sources else None,
        findings=criteria.apply_exceptions(merge_findings(uses, answers.matches)),
        breaches=criteria.breaches(manifest, read),
        unchecked=answers.unchecked,
    )
    check_clean(audit, repair_hint(audit, "nothing was written"))
    return audit


def composition_reader(composition: Composition, output: Path) -> Reader:
    """Return the reader of a bundle to be; *output* has the files that it keeps."""

    def read(names: Sequence[str]) -> Mapping[str, bytes]:
        contents = {name: composition.contents.get(name, output / name) for name in names}
        return {
            name: content if isinstance(content, bytes) else content.read_bytes()
            for name, content in contents.items()
            if isinstance(content, bytes) or content.is_file()
        }

    return read


@dataclass(frozen=True)
class _Answers:
    """Answers of the servers."""

    sources: tuple[str, ...] = ()
    """Servers that answered."""
    matches: Mapping[Package, list[Advisory]] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    """`PACKAGE: reason` for each package that no server answered for."""

    @property
    def advisories(self) -> int:
        return len({item.id for found in self.matches.values() for item in found})


def _ask_servers(
    plan: BuildPlan, options: ReviewOptions, manifest: Manifest, packages: Iterable[Package]
) -> _Answers:
    if not options.asks_servers:
        return _Answers()
    client = JsonClient(plan.credentials, plan.tls)
    indexes = _indexes(manifest) if options.audit else {}

    def ask(package: Package) -> tuple[dict[str, list[Advisory]], str]:
        """Return the advisories by server, and why a server did not answer."""
        if package.name == INTERPRETER:
            return {}, "interpreters are checked against files only: `offline-bundle audit`"
        answers: dict[str, list[Advisory]] = {}
        reasons = []
        servers = [(options.osv_server, ask_osv_server)] if options.osv_server else []
        servers += [(index, ask_index) for index in sorted(indexes.get(package, ()))]
        for server, function in servers:
            try:
                answers[without_logins(server)] = function(client, server, package)
            except NoAnswerError as error:
                reasons.append(str(error))
        return answers, "; ".join(reasons) or "it is not from an index"

    with ThreadPoolExecutor(WORKERS) as pool:
        answered = dict(zip(packages, pool.map(ask, packages), strict=True))
    return _Answers(
        sources=tuple(sorted({server for answers, _ in answered.values() for server in answers})),
        matches={
            package: [item for found in answers.values() for item in found]
            for package, (answers, _) in answered.items()
        },
        unchecked=tuple(
            f"{package.name} {package.version}: {reason}"
            for package, (answers, reason) in answered.items()
            if not answers
        ),
    )


def _indexes(manifest: Manifest) -> dict[Package, set[str]]:
    """Return the indexes that the files of each package are from."""
    indexes: dict[Package, set[str]] = defaultdict(set)
    programs = {uv.path: Package("uv", uv.version) for uv in manifest.uv.values()}
    for path, file in manifest.files.items():
        package = programs.get(path) or Package(file.name or "", file.version or "")
        if file.source and file.source.index:
            indexes[package].add(file.source.index)
    return indexes
