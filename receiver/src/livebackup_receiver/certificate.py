# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate with which the receiver serves HTTPS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from livebackup_receiver.errors import ConfigInvalid


@dataclass(frozen=True)
class Certificate:
    """What matters of it: the instant at which it ends."""

    not_after: datetime


def read_certificate(certificate: Path, key: Path) -> Certificate:
    """Read the certificate and see that the key is its key.

    :raise ConfigInvalid: a file cannot be read, or the two do not belong together
    """
    _load(certificate, "tls_certificate")
    _load(key, "tls_key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (ssl.SSLError, ValueError) as error:
        problem = f"{certificate} and {key} are not a certificate in PEM and its key ({error})"
        raise ConfigInvalid(
            "tls_certificate", problem, "give the certificate and the key it was made with"
        ) from None
    return Certificate(leaf.not_valid_after_utc)


def _load(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        raise ConfigInvalid(option, problem, "make it readable for the receiver's user") from None
