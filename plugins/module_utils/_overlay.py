# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The local image that takes a VM's new writes over a disk that is read from elsewhere.

For internal use of livebackup.qemu only. It has the bitmaps of a disk that was backed up at the point, so the
next backup of the VM is incremental. Once it is there it may hold what a guest has written, so nothing here
ever replaces one.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _images, _names, _process
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import FileExists, RestoreError

GRANULARITY = 65536
_SECTOR = 512


async def create(path: str, *, backing: str, size: int, point: str, owner: tuple[int, int] | None) -> None:
    """Make one, durably. Raises FileExists, RestoreError, ProgramFailed."""
    directory, name = os.path.split(path)
    partial = os.path.join(directory, f".{name}.livebackup-partial")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL, 0o600))
        await _write(partial, backing, size, point)
        if owner is not None:
            os.chown(partial, *owner)
        _images.sync(partial)
        # unlike a rename, a link never replaces anything
        os.link(partial, path)
    except FileExistsError as error:
        raise FileExists(
            f"The file {path} has just been made by somebody else; look what it is.", path=path
        ) from error
    except OSError as error:
        raise RestoreError(
            f"The file {path} cannot be written: {error.strerror}; check its directory.", path=path
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
    _images.sync(directory)


async def _write(path: str, backing: str, size: int, point: str) -> None:
    end, checkpoint = _names.end(point), _names.checkpoint(point)
    await _process.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(size)])
    await _bitmap(path, end, "--add")
    # a discard marks the last bytes and allocates nothing, as long as there is no backing file
    await _process.run(
        ["qemu-io", "-d", "unmap", "-f", "qcow2", "-c", f"discard {size - _SECTOR} {_SECTOR}", path]
    )
    await _bitmap(path, end, "--disable")
    await _bitmap(path, checkpoint, "--add")
    await _bitmap(path, _names.MARKER, "--add", "--disable")
    await _process.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", backing, "-F", "raw", path])


async def _bitmap(path: str, name: str, *actions: str) -> None:
    granularity = ["-g", str(GRANULARITY)] if "--add" in actions else []
    await _process.run(["qemu-img", "bitmap", *actions, *granularity, "-f", "qcow2", path, name])


async def backing_of(path: str) -> str | None:
    """The backing file that an image names, whether or not a VM has it open; "" if it has none.

    None if there is no file. Raises ProgramFailed if it is no image.
    """
    if not os.path.lexists(path):
        return None
    found = json.loads(await _process.run(["qemu-img", "info", "-U", "--output=json", path]))
    backing: str = found.get("backing-filename", "")
    return backing


async def written_to(path: str) -> bool:
    """Whether an image that nobody has open holds anything of its own."""
    alone = json.dumps({"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": path}})
    extents: list[dict[str, Any]] = json.loads(
        await _process.run(["qemu-img", "map", "--output=json", f"json:{alone}"])
    )
    return any(extent["present"] for extent in extents)


async def drop_backing(path: str) -> None:
    """Take the backing file off an image that nobody has open and that needs it no more, durably."""
    _images.sync(path)
    await _process.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", path])
    _images.sync(path)


def blockdev(disk: str, path: str) -> str:
    """The argument of QEMU's ``-blockdev`` for an overlay. Pure."""
    file = {"driver": "file", "filename": path, "cache": {"direct": True}}
    return json.dumps(
        {
            "driver": "qcow2",
            "node-name": f"disk-{disk}",
            "cache": {"direct": True},
            "discard": "unmap",
            "file": file,
        }
    )


def device(disk: str) -> str:
    """The argument of ``-device``; without stop, the guest might see an error. Pure."""
    return f"virtio-blk-pci,id={disk},drive=disk-{disk},rerror=stop,werror=stop"
