# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disk images through qemu-img. For internal use of livebackup.qemu only."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _process
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport, credentials
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import FileInUse, ProgramFailed

_KEY = "livebackup"


@dataclass(frozen=True)
class Export:
    """A disk of a restore point, readable over NBD; ``key_directory`` holds the key."""

    name: str
    transport: Transport
    key_directory: str

    def arguments(self) -> tuple[list[str], str]:
        """qemu-img's flags and source argument that open it. Pure."""
        properties = credentials(self.transport, _KEY, self.key_directory)
        options = {
            "driver": "nbd",
            "server.type": "inet",
            "server.host": self.transport.host,
            "server.port": str(self.transport.port),
            "export": self.name,
            "tls-creds": _KEY,
        }
        credentials_object = f"{properties.pop('qom-type')},{_options(properties)}"
        return ["--object", credentials_object, "--image-opts"], _options(options)


def _options(values: dict[str, Any]) -> str:
    # QEMU takes a doubled comma as a comma
    return ",".join(f"{name}={str(value).replace(',', ',,')}" for name, value in values.items())


async def measure(export: Export, image_format: str) -> int:
    """Bytes an image of this format needs for the content of an export. Raises ProgramFailed."""
    flags, source = export.arguments()
    output = await _process.run(["qemu-img", "measure", "--output=json", *flags, "-O", image_format, source])
    required: int = json.loads(output)["required"]
    return required


async def convert(export: Export, image_format: str, path: str) -> None:
    """Copy an export into a new image file, durably. Raises ProgramFailed."""
    flags, source = export.arguments()
    await _process.run(["qemu-img", "convert", *flags, "-W", "-m", "8", "-O", image_format, source, path])
    sync(path)


def sync(path: str) -> None:
    """fsync a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def refuse_in_use(path: str) -> None:
    """Raise FileInUse if any process has the image open, for writing or reading.

    Taken for a raw image to be repaired, qemu-img claims the file for writing and then finds that raw has no
    checks: the lock is asked for and nothing is ever written.
    """
    try:
        await _process.run(["qemu-img", "check", "-q", "-f", "raw", "-r", "leaks", path])
    except ProgramFailed as error:
        if "lock" in error.facts["reason"]:
            raise FileInUse(
                f"The file {path} is in use by another process, perhaps a running VM, so it is not "
                "replaced, not even with force; stop the VM or restore to another place.",
                path=path,
            ) from error
