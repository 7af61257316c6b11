# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver's certificate, as time would have it: expired, and otherwise the very same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from lab.host import Host

CERTIFICATE = "/etc/livebackup/tls/server.pem"
AUTHORITY_KEY = "/etc/livebackup/tls/ca.key"
UNIT = "livebackup-receiver"


@contextmanager
def expired(host: Host) -> Iterator[None]:
    """Within it, the receiver on `host` shows a certificate that ended an hour ago; then its own again."""
    path = host.path(CERTIFICATE)
    before = path.read_bytes()
    try:
        path.write_bytes(ended(before, host.path(AUTHORITY_KEY)))
        host.run(["systemctl", "restart", UNIT])
        yield
    finally:
        path.write_bytes(before)
        host.run(["systemctl", "restart", UNIT])


def ended(pem: bytes, authority_key: Path) -> bytes:
    """The certificate `pem`, signed anew by its authority, but with an end in the past."""
    valid = x509.load_pem_x509_certificate(pem)
    key = serialization.load_pem_private_key(authority_key.read_bytes(), password=None)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(valid.subject)
        .issuer_name(valid.issuer)
        .public_key(valid.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now - timedelta(hours=1))
    )
    for extension in valid.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # any kind of key a CA has
    return signed.public_bytes(serialization.Encoding.PEM)
