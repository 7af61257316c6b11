# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the frozen disks to the receiver: targets, jobs, progress.

For internal use of livebackup.qemu only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bandwidth,
    _channel,
    _credentials,
    _faultpoints,
    _names,
    _reconcile,
    _resync,
    _scratch,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    ReceiverStalled,
    SnapshotBroken,
    TransferError,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members
from ansible_collections.livebackup.qemu.plugins.module_utils._plan import DiskPlan
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._resync import Reading
from ansible_collections.livebackup.qemu.plugins.module_utils._watchdog import Watchdog


@dataclass(frozen=True)
class Progress:
    """A disk's job; sizes in bytes."""

    vm: str
    disk: str
    done_bytes: int
    total_bytes: int
    sent_bytes: int
    ended: bool

    def facts(self) -> dict[str, Any]:
        """As the API's step ``transferring`` wants it."""
        return {
            "vm": self.vm,
            "disk": self.disk,
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "sent_bytes": self.sent_bytes,
        }


@dataclass(frozen=True)
class Carrier:
    """What all transfers of a session share; ``channels`` is the list the stall watch looks at."""

    transport: Transport
    watchdog: Watchdog
    channels: list[Channel]
    scratch_dir: str
    stall_limit: float
    receiver: Receiver
    session: str
    host: str
    speed: int


async def attach_targets(member: Member, carrier: Carrier) -> None:
    """Give a running VM everything the cut needs: credentials, scratch images, connections to the receiver.

    Raises MonitorError, ReceiverUnreachable, OptionError.
    """
    monitor = member.monitor
    with _credentials.key_directory(carrier.transport, monitor.owner) as directory:
        await monitor.execute(
            "object-add", _credentials.credentials(carrier.transport, _names.PSK, directory)
        )
        _faultpoints.reached("participant.credentials-made")
    for plan in member.plans:
        await _scratch.attach(
            monitor, index=plan.index, size=plan.disk.virtual_size, directory=carrier.scratch_dir
        )
        _faultpoints.reached("participant.scratch-attached")
        await _attach_receiver(member, plan, carrier)
        if plan.compared:
            member.readings[plan.index] = reading = Reading(monitor, plan, carrier.scratch_dir)
            await reading.attach(carrier.channels, carrier.watchdog)


async def connect(member: Member, plan: DiskPlan, carrier: Carrier) -> Channel:
    """Connect a disk to the receiver; whatever becomes of us, the connection ends. Raises
    ReceiverUnreachable.
    """
    channel = await asyncio.to_thread(_channel.connect, carrier.transport, carrier.stall_limit)
    member.channels[plan.index] = channel
    carrier.channels.append(channel)
    carrier.watchdog.hold(channel.fileno())
    return channel


async def _attach_receiver(member: Member, plan: DiskPlan, carrier: Carrier) -> None:
    channel = await connect(member, plan, carrier)
    monitor = member.monitor
    monitor.send_fd(channel.fileno())
    await monitor.execute("getfd", {"fdname": _names.fd(plan.index)})
    _faultpoints.reached("participant.socket-handed")
    channel.expect()
    await monitor.execute("blockdev-add", _transactions.receiver_node(plan))
    channel.rest()
    _faultpoints.reached("participant.receiver-attached")


async def start(member: Member, carrier: Carrier, speed: int) -> None:
    """Start all jobs of a VM, and where it is not known what to send, the comparison that finds it out."""
    for plan in member.plans:
        reading = member.readings.get(plan.index)
        if reading is None:
            await _start_job(member, plan, speed)
        else:
            path = _resync.digests_path(carrier.session, carrier.host, member.name, plan.disk.name)
            reading.start(carrier.receiver, path, carrier.speed)


async def _start_job(member: Member, plan: DiskPlan, speed: int) -> None:
    """QAPI: blockdev-backup."""
    member.channels[plan.index].patience = _bandwidth.patience(speed)
    member.channels[plan.index].expect()
    await member.monitor.execute("blockdev-backup", _transactions.backup_job(plan, speed))
    _faultpoints.reached("participant.job-started")


async def look(member: Member, speed: int) -> list[Progress]:
    """The state of all jobs of a VM (QAPI ``query-jobs``); a disk that has been compared gets its job.

    Raises SnapshotBroken, ReceiverStalled, TransferError for a job that failed, MonitorError.
    """
    for plan in member.plans:
        reading = member.readings.get(plan.index)
        if reading is not None and reading.ended and plan.index not in member.compared:
            reading.result()
            member.compared.add(plan.index)
            member.dirty_bytes[plan.disk.name] = reading.differing_bytes
            await _start_job(member, plan, speed)
    jobs = {job["id"]: job for job in await member.monitor.execute("query-jobs")}
    return [_progress(member, plan, jobs.get(_names.job(plan.index))) for plan in member.plans]


async def look_at_all(members: Members, speed: int) -> list[Progress]:
    """The same of all VMs that are still present."""
    looks = await members.do(lambda member: look(member, speed))
    return [disk for disks in looks for disk in disks]


def _progress(member: Member, plan: DiskPlan, job: dict[str, Any] | None) -> Progress:
    channel, reading = member.channels[plan.index], member.readings.get(plan.index)
    name, size = plan.disk.name, plan.disk.virtual_size
    if reading is not None and plan.index not in member.compared:
        return Progress(member.name, name, reading.done_bytes, size, channel.sent_bytes(), False)
    if job is None or job.get("error"):
        raise failure(member.name, name, "it was dismissed" if job is None else job["error"], channel.stalled)
    ended = job["status"] == "concluded"
    if ended:
        channel.rest()
    member.sent_bytes[name] = channel.sent_bytes()
    before = size if reading is not None else 0
    return Progress(
        member.name,
        name,
        before + job["current-progress"],
        before + job["total-progress"],
        channel.sent_bytes(),
        ended,
    )


def failure(vm: str, disk: str, reason: str, stalled: bool) -> TransferError:
    """Put a job's error into words. Pure."""
    facts = {"vm": vm, "disk": disk, "reason": reason}
    if stalled:
        return ReceiverStalled(
            f"VM {vm}: the transfer of disk {disk} was ended because the receiver did not take any "
            f"data for too long; check the receiver's load, disks and network.",
            **facts,
        )
    if "Permission denied" in reason:
        return SnapshotBroken(
            f"VM {vm}: the snapshot of disk {disk} broke because its scratch image was full or too "
            f"slow; give scratch_dir more room or a faster file system.",
            **facts,
        )
    return TransferError(
        f"VM {vm}: the transfer of disk {disk} failed: {reason}; see the receiver's log.", **facts
    )


async def next_event(members: list[Member], timeout: float) -> None:
    """Return when the status of any job has changed, or after ``timeout`` seconds."""
    waits = [asyncio.ensure_future(member.monitor.job_event()) for member in members]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def sent_facts(member: Member) -> list[dict[str, Any]]:
    """The disks of one VM of the step ``transferred``."""
    compared = {plan.disk.name for plan in member.plans if plan.compared}
    return [
        {
            "vm": member.name,
            "disk": disk,
            "sent_bytes": count,
            **({"dirty_bytes": member.dirty_bytes[disk]} if disk in compared else {}),
        }
        for disk, count in member.sent_bytes.items()
    ]


async def stop_comparing(member: Member) -> None:
    """End the comparisons of a VM, whatever they are at."""
    for reading in member.readings.values():
        await reading.close()


async def detach(member: Member) -> None:
    """Free the VM of jobs, filters, scratch images and connections. Raises MonitorError."""
    await stop_comparing(member)
    await _reconcile.release(member.monitor)
    for channel in member.channels.values():
        channel.close()
    member.channels.clear()
