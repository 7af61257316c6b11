# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of the time for which VMs stand still."""

from __future__ import annotations

import backups
from machine import Machine, wait_for
from receiving import Peer, ReceiverProcess


def test_the_wait_for_another_host_is_part_of_the_pause_and_told(
    small_vm: Machine, receiver: ReceiverProcess
) -> None:
    backups.track(small_vm)
    session = receiver.open(hosts=("hv1", "hv2"))
    peer = Peer(receiver, session, f"other-of-{small_vm.name}")
    participant = backups.start(small_vm, receiver, session)
    receiver.wait_participant(session, "joined", "prepared")
    peer.say_all("joined", "prepared")
    wait_for(lambda: not small_vm.running(), "the VM to be stopped")
    receiver.wait_participant(session, "stopped")
    peer.say_all("stopped", "cut", "transferred")
    result = participant.result()
    assert not result.get("failed"), result["msg"]
    pause = result["vms"][0]["pause_ms"]
    assert pause / 2 < result["barrier_ms"] < pause
