# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports as QEMU's tools read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livebackup_receiver import subprocesses
from livebackup_receiver.storage_daemon.credentials import TLS_PRIORITY, write_key


def client_options(made: dict[str, Any], keys: Path, *, key: str | None = None) -> tuple[str, str]:
    """The credentials object and the image options with which QEMU's tools open the first disk."""
    keys.mkdir(exist_ok=True)
    transport = made["transport"]
    write_key(keys, transport["psk_username"], key or transport["psk_key"])
    user = transport["psk_username"]
    credentials = f"tls-creds-psk,id=psk,endpoint=client,dir={keys},username={user},priority={TLS_PRIORITY}"
    name = made["disks"][0]["export"]
    return credentials, f"driver=nbd,host=127.0.0.1,port={transport['port']},export={name},tls-creds=psk"


async def read_disk(made: dict[str, Any], scratch: Path, *, key: str | None = None) -> bytes:
    """The content of the first disk of an export."""
    credentials, source = client_options(made, scratch / "keys", key=key)
    argv = [
        "qemu-img",
        "convert",
        "--object",
        credentials,
        "--image-opts",
        source,
        "-O",
        "raw",
        str(scratch / "raw"),
    ]
    await subprocesses.run(argv, timeout_s=30)
    return (scratch / "raw").read_bytes()
