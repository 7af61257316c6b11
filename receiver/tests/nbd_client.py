# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's NBD client over TLS-PSK, as a hypervisor or a restore would use it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from livebackup_receiver.model import Transport
from livebackup_receiver.storage_daemon.credentials import TLS_PRIORITY, write_key
from livebackup_receiver.subprocesses import Completed, run


async def qemu_io(transport: Transport, export: str, *commands: str, read_only: bool = False) -> Completed:
    """Run qemu-io commands on an export.

    :raise CommandFailed: the export cannot be opened, or a command fails
    """
    with tempfile.TemporaryDirectory() as keys:
        write_key(Path(keys), transport.psk_username, transport.psk_key)
        credentials = f"tls-creds-psk,id=psk,endpoint=client,dir={keys},username={transport.psk_username}"
        target = f"driver=nbd,host=127.0.0.1,port={transport.port},export={export},tls-creds=psk"
        arguments = [word for command in commands for word in ("-c", command)]
        mode = ["-r"] if read_only else []
        options = ["--object", f"{credentials},priority={TLS_PRIORITY}", "--image-opts"]
        return await run(["qemu-io", *mode, *options, target, *arguments], timeout_s=30)


async def plain_qemu_io(transport: Transport, export: str, *commands: str) -> Completed:
    """The same without TLS."""
    target = f"driver=nbd,host=127.0.0.1,port={transport.port},export={export}"
    arguments = [word for command in commands for word in ("-c", command)]
    return await run(["qemu-io", "--image-opts", target, *arguments], timeout_s=30)
