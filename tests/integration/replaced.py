# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver with another file than its own for a while: an expired certificate, a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from lab.host import Host

AUTHORITY_KEY = "/etc/livebackup/tls/ca.key"
CERTIFICATE = "/etc/livebackup/tls/server.pem"
CONFIGURATION = "/etc/livebackup/receiver.toml"


@contextmanager
def replaced(host: Host, path: str, content: bytes) -> Iterator[None]:
    """Within it, the receiver on `host` runs with this content of a file of its own."""
    file = host.path(path)
    before = file.read_bytes()
    try:
        file.write_bytes(content)
        host.run(["systemctl", "restart", "livebackup-receiver"])
        yield
    finally:
        file.write_bytes(before)
        host.run(["systemctl", "restart", "livebackup-receiver"])


def expired_certificate(host: Host) -> bytes:
    """The receiver's certificate, signed anew by its authority, but with an end an hour ago."""
    valid = x509.load_pem_x509_certificate(host.path(CERTIFICATE).read_bytes())
    key = serialization.load_pem_private_key(host.path(AUTHORITY_KEY).read_bytes(), password=None)
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


def full_store(host: Host) -> bytes:
    """The receiver's configuration, for a store that never has enough room."""
    return host.path(CONFIGURATION).read_bytes() + b"min_free_bytes = 1_000_000_000_000_000\n"
