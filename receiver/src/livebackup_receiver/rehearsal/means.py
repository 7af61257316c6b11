# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine needs for a rehearsal, and what of it is missing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from livebackup_receiver import subprocesses
from livebackup_receiver.errors import CommandFailed
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.rehearsal import enclosure, machine

MIB = 1 << 20
# What a QEMU takes beside the memory of its guest.
OVERHEAD_MIB = 150
PACKAGES = {
    machine.PROGRAM: "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    enclosure.PROGRAM: "bubblewrap",
    "ip": "iproute2",
    "dnsmasq": "dnsmasq-base",
}
TUN = "/dev/net/tun"
TRY_S = 30.0


@dataclass(frozen=True)
class Needs:
    """Programs, devices and files, and memory in MiB."""

    programs: tuple[str, ...]
    devices: tuple[str, ...]
    files: tuple[str, ...]
    memory_mib: int


def needs_of(plan: RecoveryPlan, vms: Sequence[str], files: Path | None) -> Needs:
    """What it takes to bring up these VMs; pure.

    :param files: the directory of kernels
    """
    network = plan.network
    unneeded = () if network is not None and network.dhcp else ("dnsmasq",)
    boots = [plan.member(vm).boot for vm in vms]
    named = [name for boot in boots for name in (boot.kernel, boot.initrd) if name is not None]
    kernels = [str(files / name) if files else name for name in named]
    uefi = [machine.UEFI_CODE, machine.UEFI_VARIABLES] if any(b.firmware == "uefi" for b in boots) else []
    return Needs(
        programs=tuple(each for each in PACKAGES if each not in unneeded),
        devices=(TUN,) if network is not None else (),
        files=tuple(dict.fromkeys([*kernels, *uefi])),
        memory_mib=sum(boot.memory_mib + OVERHEAD_MIB for boot in boots),
    )


async def what_is_missing(needs: Needs) -> str | None:
    """One sentence about the first that this machine lacks; None if it has all."""
    if (missing := next(_missing(needs), None)) is not None:
        return missing
    return await _refused_namespaces()


def _missing(needs: Needs) -> Iterator[str]:
    for name in needs.programs:
        if shutil.which(name, path=subprocesses.ENVIRONMENT["PATH"]) is None:
            yield f"{name} is not installed; install the package {PACKAGES[name]}"
    for device in needs.devices:
        if not os.access(device, os.R_OK | os.W_OK):
            yield f"{device} cannot be used by this user; a network of VMs needs it"
    for path in needs.files:
        if not Path(path).is_absolute():
            yield f"the option rehearsal_files is not set; it names the directory of {path}"
        if not os.access(path, os.R_OK):
            yield f"{path} cannot be read; {_remedy(path)}"
    free_mib = available_mib(Path("/proc/meminfo").read_text(encoding="ascii"))
    if free_mib < needs.memory_mib:
        yield f"the VMs need {needs.memory_mib} MiB of memory, and {free_mib} MiB are available"


def _remedy(path: str) -> str:
    uefi = path in (machine.UEFI_CODE, machine.UEFI_VARIABLES)
    return "install the package ovmf" if uefi else "put the file there, or correct the recovery plan"


def available_mib(meminfo: str) -> int:
    """What may be taken without swapping (proc(5), ``MemAvailable``); pure."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines())
    return int(fields["MemAvailable"].split()[0]) // 1024


async def _refused_namespaces() -> str | None:
    with tempfile.TemporaryDirectory() as directory:
        try:
            await subprocesses.run(enclosure.enclosed(["true"], Path(directory)), timeout_s=TRY_S)
        except CommandFailed as error:
            why = error.last_words
            return f"namespaces of its own cannot be had here ({why}); allow this user to make them"
    return None
