# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk of a restore point, read from the receiver. For internal use of livebackup.qemu only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _credentials, _nbd
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    LivebackupError,
    ReceiverError,
    ReceiverLost,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver


class PointExport:
    """One disk; the receiver exports it when the first thread opens it, and until ``close``."""

    def __init__(
        self,
        receiver: Receiver,
        point: str,
        vm: str,
        disk: str,
        *,
        channels: list[Channel],
        limit: float,
        stop: threading.Event,
    ) -> None:
        self._receiver = receiver.again()
        self._path = f"/points/{point}/exports"
        self._body = {"vm": vm, "disks": [disk]}
        self._disk = disk
        self._channels = channels
        self._limit = limit
        self._stop = stop
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._opened: tuple[Transport, str, str] | None = None

    @contextlib.contextmanager
    def connected(self) -> Iterator[_nbd.Connection]:
        """A connection of one thread. Raises ReceiverError."""
        with self._lock:
            transport, name, directory = self._opened = self._opened or self._open()
        with _nbd.remote(
            transport,
            name,
            directory,
            channels=self._channels,
            limit=self._limit,
            stop=self._stop,
            explain=self._explain,
        ) as connection:
            yield connection

    def close(self) -> None:
        """Have the export ended; one that nobody uses would expire by itself."""
        with contextlib.suppress(ReceiverError):
            self._stack.close()
        self._receiver.close()

    def _open(self) -> tuple[Transport, str, str]:
        answer: dict[str, Any] = self._receiver.post(self._path, self._body, idempotent=False)
        self._stack.callback(self._receiver.delete, f"/exports/{answer['id']}")
        transport = Transport.from_api(self._receiver.host, answer["transport"])
        directory = self._stack.enter_context(_credentials.key_directory(transport))
        return transport, answer["disks"][0]["export"], directory

    def _explain(self, reason: str, gone: bool) -> LivebackupError:
        if gone:
            remedy = "see that the receiver runs and can be reached, then repeat the task"
            what = f"the connection to the receiver at {self._receiver.url} was lost: {reason}"
        else:
            remedy = "look into its log and run livebackup-receiver scrub there, then repeat the task"
            what = f"the receiver at {self._receiver.url} cannot read it: {reason}"
        return ReceiverLost(
            f"Disk {self._disk}: {what}; {remedy}, which goes on where it ended.",
            disk=self._disk,
            reason=reason,
        )
