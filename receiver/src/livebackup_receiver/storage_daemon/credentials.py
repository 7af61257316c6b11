# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The credentials of an NBD server: TLS with a pre-shared key that only one session knows."""

from __future__ import annotations

import os
from pathlib import Path

# Without CHACHA20 GnuTLS takes AES-GCM, which is twice as fast where the CPU has AES.
TLS_PRIORITY = "NORMAL:-CHACHA20-POLY1305:+ECDHE-PSK:+DHE-PSK:+PSK"
CREDENTIALS = "psk"
# The group ffdhe2048 of RFC 7919. Without it QEMU computes a group of its own at each start, which
# takes up to a second.
DH_PARAMETERS = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


def write_credentials(directory: Path, user: str, key: str) -> dict[str, str]:
    """Write what QEMU reads from a private directory; the object for ``object-add``.

    The server reads the key again at every handshake, so it stays until the server has ended.
    """
    write_key(directory, user, key)
    (directory / "dh-params.pem").write_text(DH_PARAMETERS)
    return {
        "qom-type": "tls-creds-psk",
        "id": CREDENTIALS,
        "endpoint": "server",
        "dir": str(directory),
        "priority": TLS_PRIORITY,
    }


def write_key(directory: Path, user: str, key: str) -> None:
    """Write a pre-shared key for this user alone to see."""
    descriptor = os.open(key_file(directory), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{user}:{key}\n")


def key_file(directory: Path) -> Path:
    """The file in which QEMU and libnbd look for pre-shared keys."""
    return directory / "keys.psk"
