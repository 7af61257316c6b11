# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections are shut when an answer is due and none comes, and only then."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _channel
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverUnreachable


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def channel(server: socket.socket) -> Iterator[Channel]:
    made = _channel.connect(Transport("127.0.0.1", server.getsockname()[1], "user", "key"), stall_limit=10)
    yield made
    made.close()


def is_shut(server_end: socket.socket) -> bool:
    server_end.settimeout(0.2)
    try:
        return server_end.recv(1) == b""
    except TimeoutError:
        return False


def test_an_idle_connection_stays(server: socket.socket, channel: Channel) -> None:
    peer, _address = server.accept()
    with peer:
        channel.shut_if_stalled(0.0, time.monotonic() + 100)
        assert not is_shut(peer)
        channel.expect()
        channel.rest()
        channel.shut_if_stalled(0.0, time.monotonic() + 100)
        assert not is_shut(peer)
    assert not channel.stalled


def test_the_limit_counts_from_when_data_became_due(server: socket.socket, channel: Channel) -> None:
    peer, _address = server.accept()
    with peer:
        channel.expect()
        channel.shut_if_stalled(60.0, time.monotonic() + 59)
        assert not is_shut(peer)


def test_a_silent_peer_is_shut_out(server: socket.socket, channel: Channel) -> None:
    peer, _address = server.accept()
    with peer, _channel.watched([channel], limit=0.3):
        channel.expect()
        deadline = time.monotonic() + 10
        while not is_shut(peer):
            assert time.monotonic() < deadline
    assert channel.stalled


def test_a_peer_that_answers_is_kept(server: socket.socket, channel: Channel) -> None:
    peer, _address = server.accept()
    done = threading.Event()

    def answer() -> None:
        while not done.wait(0.05):
            peer.sendall(b"x")

    answering = threading.Thread(target=answer)
    with peer, _channel.watched([channel], limit=1.0):
        channel.expect()
        answering.start()
        time.sleep(1.8)
        done.set()
        answering.join()
    assert not channel.stalled


def test_bytes_sent_are_what_the_peer_acknowledged(server: socket.socket, channel: Channel) -> None:
    peer, _address = server.accept()
    with peer, socket.socket(fileno=socket.dup(channel.fileno())) as sending:
        before = channel.sent_bytes()
        sending.sendall(bytes(5000))
        assert len(peer.recv(5000, socket.MSG_WAITALL)) == 5000
        deadline = time.monotonic() + 5
        while channel.sent_bytes() < before + 5000:
            assert time.monotonic() < deadline


def test_nobody_there(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    with pytest.raises(ReceiverUnreachable, match=f"127.0.0.1 port {port} does not answer") as caught:
        _channel.connect(Transport("127.0.0.1", port, "user", "key"), stall_limit=10)
    assert "firewall" in caught.value.message
