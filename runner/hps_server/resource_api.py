"""The resource management interface: the one evaluator and its software."""

from __future__ import annotations

import json

from starlette.routing import Route

from offline_bundle.runner.hps_server.store.database import Body, now
from offline_bundle.runner.hps_server.web import (
    BUILD,
    PREFIX,
    Answer,
    Call,
    RequestError,
    Service,
    select_fields,
)

_RMS = f"{PREFIX}/rms/api/v1"
_RMS_LIMIT = 10


class ResourceApi:
    """Handlers of the resource management interface."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes."""
        route = self._service.route
        return [
            route(_RMS, lambda _: {"build": BUILD | {"version": "1.2.177"}, "time": now()}),
            route(f"{PREFIX}/rcs/healthz", lambda _: {"status": "alive"}),
            route(
                f"{PREFIX}/rcs/api/v1",
                lambda _: {"build": BUILD | {"version": "0.1.265"}, "time": now()},
            ),
            route(f"{_RMS}/analyze", self._analyze, "POST"),
            route(f"{_RMS}/{{kind}}:count", self._count_resources),
            route(
                f"{_RMS}/evaluators/{{id}}/configuration",
                lambda _: self._service.evaluator.configuration(),
            ),
            route(f"{_RMS}/evaluators/{{id}}/configuration_updates", self._configure, "POST"),
            route(f"{_RMS}/{{kind}}", self._list_resources),
        ]

    def _list_resources(self, call: Call) -> Answer:
        """List evaluators; there are no scalers and resource sets."""
        found = self._resources(call)
        limit = int(dict(call.parameters).get("limit", _RMS_LIMIT))
        return {call["kind"]: [select_fields("", body, call) for body in found[:limit]]}

    def _count_resources(self, call: Call) -> Answer:
        return {f"num_{call['kind']}": len(self._resources(call))}

    def _resources(self, call: Call) -> list[Body]:
        if call["kind"] not in {"evaluators", "scalers", "compute_resource_sets"}:
            raise RequestError(404, "Not Found", f"no such collection: {call['kind']}")
        return [self._service.evaluator.registration()] if call["kind"] == "evaluators" else []

    def _configure(self, call: Call) -> Answer:
        """Accept a change of the evaluator's configuration; it has no effect."""
        return {"configuration_updates": call.document["configuration_updates"]}

    def _analyze(self, call: Call) -> Answer:
        """Compare requirements with this machine."""
        software = call.document.get("software_requirements") or []
        resources = call.document.get("resource_requirements") or {}
        can_run = self._service.evaluator.can_run(json.dumps(software))
        requirements = dict.fromkeys(
            ("has_platform", "has_hardware", "has_custom", "accessible", "assignable"), True
        )
        entry = {
            "resource_requirements": resources,
            "software_requirements": software,
            "requirements": requirements | {"has_applications": can_run},
            "evaluator_id": self._service.evaluator.id,
        }
        names = ("matching", "assignable", "accessible_assignable_and_matching", "accessible")
        counts = {f"number_{name}": int(can_run or "matching" not in name) for name in names}
        wants_counts = dict(call.parameters).get("analytics") == "True"
        return {"analytics": counts if wants_counts else None, "evaluators": [entry], "scalers": []}
