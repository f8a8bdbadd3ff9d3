"""TLS contexts of downloads: certificates from the environment or the machine's store.

Slow to import (requests).
"""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from offline_bundle.builder.fetch.model import TlsSettings
from offline_bundle.wheelhouse.runtime.errors import BundleError


def verifying_context(settings: TlsSettings | None = None) -> ssl.SSLContext:
    """Return the TLS context with the configured certificates, else those of requests.

    REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE are variables of requests, SSL_CERT_FILE and SSL_CERT_DIR
    of OpenSSL and uv. SSL_CLIENT_CERT is uv's: one file with a client certificate and its key
    (mutual TLS). Raises BundleError where a file cannot be read.
    """
    paths = certificate_paths(settings or TlsSettings())
    return _context(paths, os.environ.get("SSL_CLIENT_CERT") or None)


def unverified_context() -> ssl.SSLContext:
    """Return a TLS context that accepts every certificate."""
    context = create_urllib3_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _load_client_certificate(context, os.environ.get("SSL_CLIENT_CERT") or None)
    return context


def certificate_paths(settings: TlsSettings) -> tuple[str, ...]:
    """Return files and folders of certificates; none means the machine's store."""
    # all of them: uv reads SSL_CERT_* only, and files come from the servers that it resolved with
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    folders = os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)
    paths = tuple(filter(None, [bundle, os.environ.get("SSL_CERT_FILE"), *folders]))
    default = () if settings.use_system_certificates else (DEFAULT_CA_BUNDLE_PATH,)
    return paths or default


@functools.lru_cache(maxsize=4)  # loading certificates takes tens of milliseconds
def _context(paths: tuple[str, ...], client_certificate: str | None) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.verify_mode = ssl.CERT_REQUIRED
    if not paths:
        context.load_default_certs()
    for path in paths:
        try:
            if Path(path).is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            raise BundleError(
                f"cannot read the certificates in {path}: {error.strerror or error}",
                hint="correct or unset REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE and "
                "SSL_CERT_DIR, which name them",
            ) from error
    _load_client_certificate(context, client_certificate)
    return context


def _load_client_certificate(context: ssl.SSLContext, path: str | None) -> None:
    """Present the certificate in the file *path*, with its key, to servers that require one."""
    if path is None:
        return
    try:
        # an empty password: a key with a passphrase is an error, not a prompt
        context.load_cert_chain(path, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"cannot use the client certificate in {path}: {reason}",
            hint="set SSL_CLIENT_CERT to one PEM file with the certificate and its unencrypted key",
        ) from error
