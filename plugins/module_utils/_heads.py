# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a disk held at a point, in digests, from the receiver. For internal use of livebackup.qemu only."""

from __future__ import annotations

import http.client
import struct
import threading
from typing import IO

from ansible_collections.livebackup.qemu.plugins.module_utils._compare_plugin import DIGEST_BYTES
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverError
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver

# number of the first cluster, how many digests follow
FRAME = struct.Struct("<QI")
_PIECE = 32768 * DIGEST_BYTES


def fetch(
    receiver: Receiver, path: str, file: IO[bytes], clusters: int, stop: threading.Event
) -> list[tuple[int, int]]:
    """Write the digests of ``GET path`` to a file, each at its cluster's place; holes are zero clusters.

    Returns the runs of clusters that are not zero, as (first, count), ascending. Ends early when ``stop`` is
    set. Raises ReceiverError.
    """
    runs: list[tuple[int, int]] = []
    with receiver.download(path) as body:
        while not stop.is_set():
            first, count = FRAME.unpack(_exactly(body, FRAME.size))
            if first + count > clusters:
                raise ReceiverError(
                    f"The receiver sent digests of {first + count} clusters of a disk that has {clusters}; "
                    "install collection and receiver of the same version."
                )
            if not count:
                break
            _store(body, file, first, count * DIGEST_BYTES)
            runs.append((first, count))
    return runs


def _store(body: http.client.HTTPResponse, file: IO[bytes], first: int, count: int) -> None:
    file.seek(first * DIGEST_BYTES)
    while count:
        piece = _exactly(body, min(count, _PIECE))
        file.write(piece)
        count -= len(piece)
    file.flush()


def _exactly(body: http.client.HTTPResponse, count: int) -> bytes:
    data = body.read(count)
    if len(data) != count:
        raise http.client.IncompleteRead(data, count - len(data))
    return data
