"""Advisories of packages from servers: an index's JSON API, or an OSV server.

The server decides which versions are affected. A package without an answer is not checked, which is
not the same as not affected.
"""

from __future__ import annotations

import re

from offline_bundle.builder.review.json_client import JsonClient, NoAnswerError
from offline_bundle.wheelhouse.audit.osv.advisory import Advisory, AdvisoryError, parse_advisory
from offline_bundle.wheelhouse.derived.audit_result import Package
from offline_bundle.wheelhouse.runtime.text import without_logins

_SIMPLE = re.compile(r"/simple/?$")
_MOST_PAGES = 100


def ask_index(client: JsonClient, server: str, package: Package) -> list[Advisory]:
    """Return the `vulnerabilities` of the JSON API of the index *server*; raises NoAnswerError.

    The API of an index at `PREFIX/simple/` is at `PREFIX/pypi/NAME/VERSION/json`, as in Warehouse.
    """
    prefix, is_simple = _SIMPLE.subn("", server)
    if not is_simple:
        raise NoAnswerError(f"{server}: its path does not end with /simple/, so it has no JSON API")
    document = client.get(f"{prefix}/pypi/{package.name}/{package.version}/json")
    entries = document.get("vulnerabilities") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise NoAnswerError(f"{server}: its JSON API has no advisories")
    return [_parse(_as_osv(entry, package), server) for entry in entries]


def ask_osv_server(client: JsonClient, server: str, package: Package) -> list[Advisory]:
    """Return the advisories for *package* by `POST /v1/query`; raises NoAnswerError.

    See https://google.github.io/osv.dev/post-v1-query/. An answer may have several pages.
    """
    shown = without_logins(server)
    query: dict[str, object] = {
        "package": {"name": package.name, "ecosystem": "PyPI"},
        "version": package.version,
    }
    advisories: list[Advisory] = []
    for _ in range(_MOST_PAGES):
        document = client.post(f"{server.rstrip('/')}/v1/query", query)
        entries = document.get("vulns", []) if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(entries, list):
            break
        advisories += [_parse(entry, shown) for entry in entries]
        if not document.get("next_page_token"):
            return advisories
        query["page_token"] = document["next_page_token"]
    raise NoAnswerError(f"{shown}: not the answer of an OSV server")


def _parse(entry: object, server: str) -> Advisory:
    try:
        return parse_advisory(entry)
    except AdvisoryError as error:
        raise NoAnswerError(f"{server}: {error}") from None


def _as_osv(entry: object, package: Package) -> object:
    """Return an entry of the JSON API in the OSV format: an advisory for exactly this version."""
    if not isinstance(entry, dict):
        return entry
    fixes = entry.get("fixed_in")
    # why empty ranges: they name the fixes, and affect no other version
    ranges = [
        {"type": "ECOSYSTEM", "events": [{"introduced": text}, {"fixed": text}]}
        for text in (fixes if isinstance(fixes, list) else [])
    ]
    affected = {
        "package": {"ecosystem": "PyPI", "name": package.name},
        "versions": [package.version],
        "ranges": ranges,
    }
    return {**entry, "affected": [affected]}
