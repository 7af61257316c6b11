# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a disk must hold, cluster by cluster, as digests. For internal use of livebackup.qemu only."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _deps, _heads, _runs
from ansible_collections.livebackup.qemu.plugins.module_utils._compare_plugin import (
    CLUSTER_BYTES,
    DIGEST_BYTES,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import RestoreError
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._runs import Run


class Wanted:
    """The content of a disk of ``size`` bytes. ``runs`` are its clusters that are not zero."""

    def __init__(self, size: int, runs: list[Run], digests: Any) -> None:
        self.size = size
        self.runs = _runs.joined(runs)
        self._digests = digests
        self._blake3 = _deps.blake3()

    @property
    def clusters(self) -> int:
        """How many clusters the disk has."""
        return -(-self.size // CLUSTER_BYTES)

    @property
    def data_bytes(self) -> int:
        """Bytes that are not in clusters of zeros."""
        return _runs.count_of(self.runs) * CLUSTER_BYTES

    def right(self, run: Run, data: memoryview) -> list[Run]:
        """The clusters of a run whose data, which may end with the disk, is what it must be."""
        found = [index for index in range(run[1]) if self._is_right(run[0] + index, _cluster(data, index))]
        return _runs.joined((run[0] + index, 1) for index in found)

    def _is_right(self, index: int, data: memoryview) -> bool:
        if len(data) < CLUSTER_BYTES:
            data = memoryview(bytes(data).ljust(CLUSTER_BYTES, b"\0"))
        expected = self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        return bool(self._blake3(data).digest() == expected)


def _cluster(data: memoryview, index: int) -> memoryview:
    return data[index * CLUSTER_BYTES : (index + 1) * CLUSTER_BYTES]


@contextlib.contextmanager
def fetched(
    receiver: Receiver, point: str, vm: str, disk: dict[str, Any], directory: str, stop: threading.Event
) -> Iterator[Wanted]:
    """What a disk of a point (API: PointDisk) held, kept in a file without a name while the block runs.

    Raises ReceiverError, RestoreError.
    """
    size = disk["virtual_size"]
    clusters = -(-size // CLUSTER_BYTES)
    with _file(directory) as file:
        file.truncate(max(1, clusters) * DIGEST_BYTES)
        runs = _heads.fetch(receiver, digests_path(point, vm, disk["disk"]), file, clusters, stop)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as digests:
            yield Wanted(size, runs, digests)


def _file(directory: str) -> Any:
    try:
        return tempfile.TemporaryFile(dir=directory)
    except OSError as error:
        raise RestoreError(
            f"The directory {directory} cannot be written: {error.strerror}; restore to another one.",
            dest=directory,
        ) from error


def digests_path(point: str, vm: str, disk: str) -> str:
    """Where the receiver's API has the digests of a disk at a point."""
    return "/points/{}/vms/{}/disks/{}/digests".format(
        *(urllib.parse.quote(name, safe="") for name in (point, vm, disk))
    )
