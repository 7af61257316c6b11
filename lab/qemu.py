# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of QEMU for a virtual machine of the lab."""

from __future__ import annotations

from lab.topology import WORKLOAD_PORT, DiskSpec, HostSpec, VmSpec

GUEST = "/srv/lab-guest"
"""Where a host sees the kernel and initramfs."""


def monitor(vm: str) -> str:
    """The monitor for the product, which must find it free: it serves one client at a time."""
    return f"/run/qemu/{vm}.qmp"


def lab_monitor(vm: str) -> str:
    """The second monitor, for tests."""
    return f"/run/qemu-lab/{vm}.qmp"


def agent(vm: str) -> str:
    return f"/run/qemu/{vm}.qga"


def lab_agent(vm: str) -> str:
    """A second agent in the same guest, for tests, so that the product's stays free."""
    return f"/run/qemu-lab/{vm}.qga"


def console(vm: str) -> str:
    return f"/var/log/livebackup-lab/{vm}.console"


def command(vm: VmSpec, host: HostSpec) -> list[str]:
    """The argument list that runs `vm` on `host`."""
    return [
        "qemu-system-x86_64",
        "-name", vm.name,
        "-accel", "tcg,tb-size=32",
        "-cpu", "max",
        "-machine", "q35",
        "-m", str(vm.memory_mib),
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none",
        *_monitor("monitor", monitor(vm.name)),
        *_monitor("lab-monitor", lab_monitor(vm.name)),
        *(argument for disk in vm.disks for argument in disk_arguments(disk)),
        *(_guest(vm, host) if vm.guest else []),
        *vm.extra,
    ]  # fmt: skip


def disk_arguments(disk: DiskSpec) -> list[str]:
    file, node = f"file-{disk.letter}", f"disk-{disk.letter}"
    return [
        "-blockdev", f"driver=file,node-name={file},filename={disk.path},cache.direct=off",
        "-blockdev", f"driver={disk.format},node-name={node},file={file}",
        "-device", f"virtio-blk-pci,id=vd-{disk.letter},drive={node},serial={disk.letter.upper()}",
    ]  # fmt: skip


def _monitor(name: str, path: str) -> list[str]:
    return [
        "-chardev",
        f"socket,id={name},path={path},server=on,wait=off",
        "-mon",
        f"chardev={name},mode=control",
    ]


def _guest(vm: VmSpec, host: HostSpec) -> list[str]:
    return [
        "-kernel", f"{GUEST}/vmlinuz",
        "-initrd", f"{GUEST}/initramfs",
        "-append", kernel_words(vm),
        "-chardev", f"file,id=console,path={console(vm.name)},append=on",
        "-serial", "chardev:console",
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci",
        *_agent("agent", agent(vm.name), "org.qemu.guest_agent.0"),
        *_agent("lab-agent", lab_agent(vm.name), "livebackup.lab.0"),
        "-netdev", netdev(vm, host),
        "-device", "virtio-net-pci,netdev=net,romfile=",
    ]  # fmt: skip


def kernel_words(vm: VmSpec) -> str:
    words = (
        f"lab.name={vm.identity or vm.name} lab.rate={vm.rate} lab.next={vm.next or '-'} lab.mode={vm.mode}"
    )
    return f"console=ttyS0 quiet loglevel=3 panic=-1 tsc=reliable {words}"


def netdev(vm: VmSpec, host: HostSpec) -> str:
    """QEMU's own network: the guest reaches out through its host, and is reached at one port of it."""
    forward = f",hostfwd=tcp:{host.address}:{vm.port}-:{WORKLOAD_PORT}" if vm.port else ""
    return f"user,id=net{forward}"


def _agent(name: str, path: str, port: str) -> list[str]:
    return [
        "-chardev", f"socket,id={name},path={path},server=on,wait=off",
        "-device", f"virtserialport,chardev={name},name={port}",
    ]  # fmt: skip
