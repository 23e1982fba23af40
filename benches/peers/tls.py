"""One certificate for a run, for every peer that wants TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NO_OPENSSL", "certificate", "client_context", "server_context"]

NO_OPENSSL = None if shutil.which("openssl") else "openssl, for a certificate, is not installed"


def certificate(directory: Path) -> tuple[Path, Path]:
    """The files of a self-signed certificate for localhost and its key, made if need be."""
    crt, key = directory / "tls.crt", directory / "tls.key"
    if not crt.exists():
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:FALSE"),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", str(key), "-out", str(crt)),
            ],
            check=True,
            capture_output=True,
        )
    return crt, key


def server_context(directory: Path, *protocols: str) -> ssl.SSLContext:
    """A server's context; `protocols` for ALPN."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(directory))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def client_context(directory: Path, *protocols: str) -> ssl.SSLContext:
    """A client's context, which trusts that certificate only."""
    context = ssl.create_default_context(cafile=str(certificate(directory)[0]))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
