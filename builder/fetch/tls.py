"""Whom we trust on the way to an index: the facts that `offline_bundle.builder.fetch.http` makes TLS contexts of."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Trust:
    """What uv is told about certificates, for our own downloads."""

    insecure_hosts: frozenset[str] = frozenset()
    """`HOST` or `HOST:PORT`, as `--allow-insecure-host` takes them: their certificates are not checked."""
    uses_system_certificates: bool = False
    """Whether the machine's own store of certificates is used (`system-certs`)."""

    def checks(self, url: str) -> bool:
        """Whether the certificate of *url*'s host is to be checked."""
        try:
            parts = urlsplit(url)
            host, port = (
                parts.hostname or "",
                parts.port or {"https": 443, "http": 80}.get(parts.scheme),
            )
        except ValueError:
            return True
        named = f"[{host}]" if ":" in host else host
        return not self.insecure_hosts & {host, named, f"{named}:{port}"}
