"""What the evaluators of a server are: the software that they offer, and their hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import requests
from ansys.hps.client.rms import RmsApi  # type: ignore[import-untyped]

from offline_bundle.runner.engines.hps.connection.session import Session
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    Software = set[tuple[str, str | None]]
    """Names and versions."""

_MOST_EVALUATORS = 20
"""Each is a request. A site with more of them is assumed to offer the software."""

_MOST_HOSTS = 1000


def check_software(session: Session, name: str, version: str | None) -> None:
    """Raise `InputError` for software that no evaluator offers: its jobs would never start.

    A server that does not list the software of its evaluators is assumed to offer it.
    """
    offered = session.retry_until_available(lambda: _offered_software(session, name, version))
    if not offered or _includes(offered, name, version):
        return
    wanted = f"{name} {version}" if version else name
    listed = sorted({f"{other} {release or ''}".strip() for other, release in offered})
    raise InputError(
        f"no evaluator of {session.server.url} offers the software {wanted}; "
        f"they offer {', '.join(listed)}",
        hint="name one with --software and --software-version, or have it registered; "
        "--skip-software-check submits without this check",
    )


def find_host_names(session: Session) -> dict[str, str]:
    """Return the names of the evaluators' hosts by identifier; empty if the server lists none."""
    try:
        evaluators = RmsApi(session.client).get_evaluators(
            as_objects=False, limit=_MOST_HOSTS, fields=["id", "host_id", "host_name"]
        )
    except requests.RequestException:  # no permission: names are a convenience
        return {}
    return {
        str(evaluator["host_id"]): str(evaluator["host_name"])
        for evaluator in evaluators
        if evaluator.get("host_id") and evaluator.get("host_name")
    }


def _offered_software(session: Session, name: str, version: str | None) -> Software:
    """Request the software until *name* is found; empty if the list is not complete."""
    api = RmsApi(session.client)
    try:
        resource_sets = api.get_compute_resource_sets(as_objects=False, limit=100)
        offered = _applications(resource_sets, "available_applications")
        limit = _MOST_EVALUATORS + 1
        evaluators = api.get_evaluators(as_objects=False, limit=limit, fields=["id"])
        for evaluator in evaluators[:_MOST_EVALUATORS]:
            if _includes(offered, name, version):
                return offered
            configuration = api.get_evaluator_configuration(evaluator["id"], as_object=False)
            offered |= _applications([configuration], "applications")
    except requests.RequestException as error:
        if getattr(error, "response", None) is not None:  # no permission, or no such route
            return set()
        raise
    return offered if len(evaluators) <= _MOST_EVALUATORS else set()


def _applications(resources: Sequence[Any], key: str) -> Software:
    entries = [entry for resource in resources for entry in (resource or {}).get(key) or ()]
    return {(str(entry.get("name")), entry.get("version")) for entry in entries}


def _includes(offered: Software, name: str, version: str | None) -> bool:
    return any(other == name and version in {None, release} for other, release in offered)
