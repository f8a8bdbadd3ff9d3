"""HTTP connections whose number is limited: those that no user needs end first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

_MOST_CONNECTIONS = 400
"""Below the usual limit of open files, 1,024."""


class LimitedConnection(H11Protocol):
    """A connection. uvicorn waits for slow requests without end, so anyone could use up all files.

    Beyond the limit, the oldest connection without a request of a user that logged in is closed.
    """

    opened = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection; end another one beyond the limit."""
        super().connection_made(transport)
        self.opened = self.loop.time()
        current = [other for other in self.connections if not other.transport.is_closing()]
        if len(current) > _MOST_CONNECTIONS:
            unneeded = [other for other in current if not _is_of_user(other)]
            # WebSockets, which replace the first protocol of a connection, come first
            oldest = min(unneeded, key=lambda other: getattr(other, "opened", 0.0), default=self)
            oldest.transport.abort()


def _is_of_user(connection: object) -> bool:
    """Return whether a request with a valid token is under way."""
    cycle = getattr(connection, "cycle", None)
    if isinstance(connection, H11Protocol) and (cycle is None or cycle.response_complete):
        return False
    scope: dict[str, Any] | None = getattr(connection, "scope", None)
    return scope is not None and "user" in scope.get("state", ())
