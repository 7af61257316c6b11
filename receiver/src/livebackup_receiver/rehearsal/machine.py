# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a guest's QEMU; pure.

QEMU sees an image for each disk, which takes what the guest writes, on top of an NBD export that nobody can
write to. It may start no program and take no privilege (``-sandbox``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from livebackup_receiver.recovery.plan import Boot
from livebackup_receiver.rehearsal.network import Card
from livebackup_receiver.rehearsal.script import INSIDE, SOCKET, DiskPart

# QEMU's own devices cut longer ones.
SERIAL_CHARACTERS = 20
PROGRAM = "qemu-system-x86_64"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
AGENT = "org.qemu.guest_agent.0"
UEFI_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
UEFI_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
MODELS = {"virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e", "rtl8139": "rtl8139"}
CHANNELS = ("monitor", "console", "firmware", "agent")
# Where the BIOS says what it does, which a console does not show: that it finds nothing to boot, above all.
FIRMWARE_PORT = 0x402


@dataclass(frozen=True)
class Machine:
    """All that a command line depends on; ``descriptors`` has an open socket for each of ``CHANNELS``."""

    vm: str
    boot: Boot
    disks: Sequence[DiskPart]
    cards: Sequence[Card]
    descriptors: dict[str, int]
    accelerators: Sequence[str]
    overlay_bytes: int
    files: str | None


def variables_of(vm: str) -> str:
    """The name of the file of a UEFI machine's variables."""
    return f"{vm}.variables"


def command(machine: Machine) -> list[str]:
    """The whole of it; no file that it writes becomes larger than allowed, which it is told as an error."""
    argv = ["env", "--ignore-signal=XFSZ", "prlimit", f"--fsize={machine.overlay_bytes}", PROGRAM]
    return [*argv, *_machine(machine), *_channels(machine), *_disks(machine), *_network(machine.cards)]


def _machine(machine: Machine) -> Iterator[str]:
    boot = machine.boot
    yield from ("-name", machine.vm, "-nodefaults", "-no-user-config", "-sandbox", SANDBOX)
    # The first that there is; "max" is the host's own processor with KVM.
    for accelerator in machine.accelerators:
        yield from ("-accel", accelerator)
    yield from ("-cpu", "max")
    yield from ("-machine", boot.machine, "-m", f"{boot.memory_mib}M", "-smp", str(boot.cpus))
    yield from ("-display", "none", "-device", "VGA", "-boot", "menu=off")
    if boot.kernel is not None:
        yield from ("-kernel", f"{machine.files}/{boot.kernel}")
    if boot.initrd is not None:
        yield from ("-initrd", f"{machine.files}/{boot.initrd}")
    if boot.append is not None:
        yield from ("-append", boot.append)
    if boot.firmware == "uefi":
        yield from _uefi(machine)


def _uefi(machine: Machine) -> Iterator[str]:
    files = {"uefi-code": UEFI_CODE, "uefi-variables": str(INSIDE / variables_of(machine.vm))}
    for node, path in files.items():
        readonly = {"read-only": node == "uefi-code"}
        yield from _blockdev({"driver": "file", "node-name": node, "filename": path} | readonly)
    yield from ("-machine", "pflash0=uefi-code,pflash1=uefi-variables")


def _channels(machine: Machine) -> Iterator[str]:
    for name in CHANNELS:
        yield from ("-chardev", f"socket,id={name},fd={machine.descriptors[name]}")
    yield from ("-mon", "chardev=monitor,mode=control", "-serial", "chardev:console")
    yield from ("-device", f"isa-debugcon,iobase={FIRMWARE_PORT:#x},chardev=firmware")
    yield from ("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=agent,name={AGENT}")


def _disks(machine: Machine) -> Iterator[str]:
    bus = machine.boot.disk_bus
    if bus == "scsi":
        yield from ("-device", "virtio-scsi-pci,id=disks")
    if bus == "sata":
        yield from ("-device", "ich9-ahci,id=disks")
    for number, disk in enumerate(machine.disks):
        yield from _blockdev(_export(number, disk))
        yield from _blockdev(_overlay(number, disk))
        place = _place(bus, number)
        # A guest that cannot write any more would go on as if its disk were broken.
        yield from (
            "-device",
            f"{place},drive=disk{number},id=device{number},bootindex={number + 1},"
            f"serial={disk.disk[:SERIAL_CHARACTERS]},werror=stop,rerror=stop",
        )


def _place(bus: str, number: int) -> str:
    if bus == "scsi":
        return f"scsi-hd,bus=disks.0,scsi-id={number},lun=0" if number < 256 else f"scsi-hd,lun={number}"
    if bus == "sata":
        return f"ide-hd,bus=disks.{number}"
    if bus == "ide":
        return f"ide-hd,bus=ide.{number // 2},unit={number % 2}"
    return "virtio-blk-pci"


def _export(number: int, disk: DiskPart) -> dict[str, Any]:
    """QAPI ``BlockdevOptionsNbd``."""
    server = {"type": "unix", "path": str(INSIDE / SOCKET)}
    node = {"driver": "nbd", "node-name": f"point{number}", "read-only": True}
    return node | {"server": server, "export": disk.export}


def _overlay(number: int, disk: DiskPart) -> dict[str, Any]:
    """QAPI ``BlockdevOptionsQcow2``; nothing of it outlives the guest, so nothing needs to be durable."""
    file = {"driver": "file", "filename": str(INSIDE / disk.overlay), "discard": "unmap"}
    node = {"driver": "qcow2", "node-name": f"disk{number}", "file": file, "backing": f"point{number}"}
    return node | {"discard": "unmap", "detect-zeroes": "unmap", "cache": {"no-flush": True}}


def _blockdev(node: dict[str, Any]) -> tuple[str, str]:
    return "-blockdev", json.dumps(node)


def _network(cards: Sequence[Card]) -> Iterator[str]:
    for card in cards:
        yield from ("-netdev", f"tap,id={card.tap},ifname={card.tap},script=no,downscript=no")
        # Without its ROM a card does not try to boot from the network.
        yield from ("-device", f"{MODELS[card.model]},netdev={card.tap},mac={card.mac},romfile=")
