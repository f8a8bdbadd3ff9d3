"""Fetch the attestations of wheels that their index names (PEP 740), and verify them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import urljoin

from offline_bundle.builder.compose import LockedScript, WheelFile
from offline_bundle.builder.model import BuildPlan
from offline_bundle.builder.review.json_client import WORKERS, JsonClient, NoAnswerError
from offline_bundle.builder.review.plan import has_provenance
from offline_bundle.wheelhouse.audit.provenance import AttestationError, AttestationVerifier
from offline_bundle.wheelhouse.derived.package_names import includes
from offline_bundle.wheelhouse.runtime.errors import FetchError, IntegrityError, first_problems
from offline_bundle.wheelhouse.runtime.sizes import count
from offline_bundle.wheelhouse.store.writer import BundleWriter

_SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"


def add_attestations(
    plan: BuildPlan, locks: Sequence[LockedScript], writer: BundleWriter
) -> tuple[list[LockedScript], list[str]]:
    """Return *locks* with the publishers of their wheels, and notes on what was not fetched.

    Attestations of the bundle in force are kept. Raises IntegrityError (5) for one that does not
    hold, or is required and absent; FetchError (4) if a required one cannot be fetched.
    """
    names = plan.review.attested if plan.review else frozenset()
    wheels = {wheel.bundle_path: wheel for lock in locks for wheel in lock.wheels}
    before = _attested_before(wheels, writer)
    kept = {path for path in before if has_provenance(path, writer)}
    wanted = [
        wheel
        for path, wheel in wheels.items()
        if path not in kept and (path in before or includes(names, wheel.name))
    ]
    fetched = _fetch_all(plan, wanted)
    attested = _verify_all(plan, wheels, fetched.contents)
    if plan.review:
        _check_required(plan.review.options.required, wheels, kept | attested.keys(), fetched)
    locks = [
        replace(lock, wheels=tuple(attested.get(wheel.bundle_path, wheel) for wheel in lock.wheels))
        for lock in locks
    ]
    return locks, [f"attestation of {path}: {why}" for path, why in fetched.problems.items()]


@dataclass(frozen=True)
class _Fetched:
    """Provenance files, and reasons why some could not be fetched, by the path of the wheel."""

    contents: Mapping[str, bytes]
    problems: Mapping[str, str]


def _attested_before(wheels: Mapping[str, WheelFile], writer: BundleWriter) -> set[str]:
    """Return the wheels that the manifest in force names a publisher for."""
    files = writer.current.files if writer.current else {}
    entries = {path: files[path] for path in wheels if path in files}
    return {
        path
        for path, entry in entries.items()
        if entry.publisher and entry.sha256 == wheels[path].sha256
    }


def _fetch_all(plan: BuildPlan, wheels: Sequence[WheelFile]) -> _Fetched:
    """Fetch in parallel; the page of a package is read once for all its wheels."""
    pages: dict[str, list[WheelFile]] = {}
    for wheel in wheels:
        if wheel.source.index and not wheel.source.built_from:
            # PEP 503: a page is below the index, by the normalized name
            page = f"{wheel.source.index.rstrip('/')}/{wheel.name}/"
            pages.setdefault(page, []).append(wheel)
    if not pages:
        return _Fetched({}, {})
    client = JsonClient(plan.credentials, plan.tls)
    contents: dict[str, bytes] = {}
    problems: dict[str, str] = {}

    def fetch(page: str) -> None:
        try:
            urls = _provenance_urls(client.read(page, _SIMPLE_JSON))
        except NoAnswerError as error:
            problems.update({wheel.bundle_path: str(error) for wheel in pages[page]})
            return
        for wheel in pages[page]:
            url = urls.get((wheel.filename, wheel.sha256))
            try:
                if url is not None:
                    address = urljoin(page, url)
                    contents[wheel.bundle_path] = client.read(address, "application/json")
            except NoAnswerError as error:
                problems[wheel.bundle_path] = str(error)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(fetch, pages))
    return _Fetched(contents, problems)


def _provenance_urls(page: bytes) -> dict[tuple[str, str], str]:
    """Return the `provenance` of a page by file name and sha256; none if it is not of PEP 691."""
    try:
        document = json.loads(page)
    except (ValueError, RecursionError):
        return {}  # HTML
    files = document.get("files") if isinstance(document, dict) else None
    urls = {}
    for file in files if isinstance(files, list) else ():
        if not isinstance(file, dict) or not isinstance(file.get("hashes"), dict):
            continue
        if isinstance(file.get("provenance"), str):
            urls[str(file.get("filename")), str(file["hashes"].get("sha256"))] = file["provenance"]
    return urls


def _verify_all(
    plan: BuildPlan, wheels: Mapping[str, WheelFile], contents: Mapping[str, bytes]
) -> dict[str, WheelFile]:
    """Return the attested wheels; raises IntegrityError for attestations that do not hold."""
    if not contents:
        return {}
    verifier = plan.review.verifier if plan.review else None
    verifier = verifier or AttestationVerifier(plan.request.review.trusted_root)
    attested, problems = {}, []
    for path in sorted(contents):
        wheel, content = wheels[path], contents[path]
        try:
            publisher = verifier.verify(content, wheel.filename, wheel.sha256)
        except AttestationError as error:
            problems.append(f"{wheel.filename}: {error}")
        else:
            attested[path] = replace(wheel, publisher=publisher, provenance=content)
    if problems:
        raise IntegrityError(
            f"the index offers {count(len(problems), 'attestation')} that cannot be valid",
            problems=first_problems(problems),
            hint="find out why before you use these wheels; nothing was written",
        )
    return attested


def _check_required(
    required: frozenset[str],
    wheels: Mapping[str, WheelFile],
    attested: Collection[str],
    fetched: _Fetched,
) -> None:
    missing = [
        path
        for path, wheel in wheels.items()
        if path not in attested and includes(required, wheel.name)
    ]
    if unread := [fetched.problems[path] for path in missing if path in fetched.problems]:
        raise FetchError(
            "required attestations could not be fetched",
            problems=first_problems(unread),
            hint="run the command again, or name fewer packages with --require-attestations",
        )
    if missing:
        raise IntegrityError(
            "required attestations are absent: the index names none for these wheels",
            problems=first_problems([wheels[path].filename for path in missing]),
            hint="pin versions that have one, or name fewer packages with --require-attestations",
        )
