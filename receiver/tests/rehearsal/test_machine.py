# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's QEMU is told, and what its events mean."""

from __future__ import annotations

from typing import Any

import pytest

from livebackup_receiver.model import Outcome
from livebackup_receiver.recovery.plan import Boot, Nic, Ready
from livebackup_receiver.rehearsal.guest import trouble_of
from livebackup_receiver.rehearsal.machine import CHANNELS, Machine, command
from livebackup_receiver.rehearsal.network import Card
from livebackup_receiver.rehearsal.overlays import bound_of
from livebackup_receiver.rehearsal.perform import unready_words
from livebackup_receiver.rehearsal.result import tail_of
from livebackup_receiver.rehearsal.script import DiskPart

MIB = 1 << 20


def words(**boot: Any) -> str:
    card = Card(vm="db", tap="tap3", model="e1000", mac="52:54:00:00:00:01", address=None)
    machine = Machine(
        vm="db",
        boot=Boot(**boot),
        disks=[DiskPart(disk="a-name-that-is-too-long-for-a-serial", export="e", overlay="db.0.qcow2")],
        cards=[card],
        descriptors={name: number for number, name in enumerate(CHANNELS, start=10)},
        accelerators=["kvm", "tcg"],
        overlay_bytes=MIB,
        files="/srv/kernels",
    )
    return " ".join(command(machine))


def test_a_guest_writes_to_an_image_of_its_own_over_what_it_can_only_read() -> None:
    said = words()
    assert '"node-name": "point0", "read-only": true' in said
    assert '"filename": "/rehearsal/db.0.qcow2"' in said
    assert '"backing": "point0"' in said
    assert "--fsize=1048576" in said
    assert "werror=stop,rerror=stop" in said


def test_it_may_start_nothing_and_finds_a_network_only_on_its_tap() -> None:
    said = words()
    assert "spawn=deny" in said
    assert "-nodefaults" in said
    assert "tap,id=tap3,ifname=tap3,script=no,downscript=no" in said
    assert "e1000,netdev=tap3,mac=52:54:00:00:00:01,romfile=" in said
    assert "-netdev user" not in said


def test_the_machine_is_the_declared_one() -> None:
    said = words(
        memory_mib=512, cpus=3, machine="pc", kernel="linux/vmlinuz", initrd="initrd", append="quiet"
    )
    assert "-machine pc -m 512M -smp 3" in said
    assert "-kernel /srv/kernels/linux/vmlinuz -initrd /srv/kernels/initrd -append quiet" in said
    assert "pflash0=uefi-code,pflash1=uefi-variables" in words(firmware="uefi")
    assert "serial=a-name-that-is-too-l," in said


@pytest.mark.parametrize(
    ("event", "data", "outcome", "reason"),
    [
        ("SHUTDOWN", {"guest": True}, Outcome.FAILED, "it powered off"),
        ("GUEST_PANICKED", {}, Outcome.FAILED, "its kernel panicked"),
        (
            "BLOCK_IO_ERROR",
            {"operation": "write", "node-name": "disk0", "device": "", "reason": "too large"},
            Outcome.COULD_NOT_RUN,
            "it wrote more to disk0 than rehearsal_overlay_bytes allows, or the store is full (too large)",
        ),
        (
            "BLOCK_IO_ERROR",
            {"operation": "read", "node-name": "disk0", "device": "", "reason": "Input/output error"},
            Outcome.FAILED,
            "disk0 could not be read (Input/output error)",
        ),
    ],
)
def test_what_stops_a_guest_is_told_apart(
    event: str, data: dict[str, Any], outcome: Outcome, reason: str
) -> None:
    trouble = trouble_of({"event": event, "data": data})
    assert (trouble.outcome, trouble.reason) == (outcome, reason)


def test_images_share_what_room_there_is() -> None:
    assert bound_of(1000 * MIB, 200 * MIB, 4, 4096 * MIB) == 200 * MIB
    assert bound_of(1000 * MIB, 200 * MIB, 4, 64 * MIB) == 64 * MIB
    assert bound_of(1000 * MIB, 990 * MIB, 4, 64 * MIB) is None


def test_a_console_cannot_steer_a_terminal() -> None:
    console = b"one\r\n\x1b[2J\x1b]0;title\x07two\x00\r\n\xff\xfethree\n" + b"x" * 500
    assert tail_of(console) == ["one", "0;titletwo", "\N{REPLACEMENT CHARACTER}" * 2 + "three", "x" * 200]
    assert tail_of(b"") == []


def test_what_was_waited_for_is_said() -> None:
    both = unready_words(Ready(agent=True, console="login:", timeout_s=30))
    assert both == "its agent did not answer and its console did not show 'login:' within 30 s"


def test_a_card_that_is_not_declared_is_one_of_virtio() -> None:
    assert Boot().nics == [Nic(model="virtio")]
