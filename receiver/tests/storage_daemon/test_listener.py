# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket

import pytest

from livebackup_receiver.errors import StorageDaemonFailed
from livebackup_receiver.storage_daemon.listener import listener
from livebackup_receiver.storage_daemon.ports import PortRange

PORTS = range(21400, 21450)


def test_short_replies_do_not_wait_for_acknowledgements() -> None:
    with (
        listener("session 1", ports=PortRange(PORTS), listen="127.0.0.1") as opened,
        socket.create_connection(("127.0.0.1", opened.port)),
    ):
        accepted, dummy = opened.socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_closed_listener_still_holds_its_port() -> None:
    ports = PortRange(PORTS)
    with listener("session 1", ports=ports, listen="127.0.0.1") as first:
        first.close()
        with listener("session 2", ports=ports, listen="127.0.0.1") as second:
            assert second.port != first.port


def test_an_address_that_is_not_ours_is_named() -> None:
    with (
        pytest.raises(StorageDaemonFailed, match=r"nbd_listen 192\.0\.2\.1: Cannot assign requested"),
        listener("session 1", ports=PortRange(PORTS), listen="192.0.2.1"),
    ):
        pass
