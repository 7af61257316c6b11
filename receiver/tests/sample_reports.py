# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builders of participants' reports; a test names only what it is about."""

from __future__ import annotations

from typing import Any

from livebackup_receiver.coordinator.reports import (
    AgentState,
    BitmapFault,
    BitmapReport,
    DiskReport,
    VmReport,
)

GIB = 1 << 30


def disk_report(disk: str = "vd-a", **facts: Any) -> DiskReport:
    defaults: dict[str, Any] = {
        "node": "disk-a",
        "format": "qcow2",
        "virtual_size": GIB,
        "tracked": True,
        "persistent": True,
        "granularity": 65536,
        "growth_unit": 1,
        "bitmaps": [],
    }
    return DiskReport(disk=disk, **(defaults | facts))


def vm_report(vm: str = "db", *disks: DiskReport) -> VmReport:
    return VmReport(
        vm=vm,
        running=True,
        agent=AgentState.ABSENT,
        qemu_version="7.2.22",
        capabilities=[],
        disks=list(disks) or [disk_report()],
    )


def bitmap(
    point: str, *, healthy: bool = True, dirty_bytes: int = 65536, fault: BitmapFault | None = None
) -> BitmapReport:
    return BitmapReport(point=point, healthy=healthy, dirty_bytes=dirty_bytes, fault=fault)
