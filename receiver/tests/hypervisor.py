# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A participant for tests: disks that really hold data, sent by QEMU's own NBD client over TLS-PSK."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from livebackup_receiver import subprocesses
from livebackup_receiver.errors import CommandFailed
from livebackup_receiver.storage_daemon.credentials import TLS_PRIORITY, write_key

MIB = 1 << 20
CLUSTER = 65536
Body = dict[str, Any]


@dataclass
class Disk:
    """A raw disk; ``written`` are the writes since its newest checkpoint: offset, length, byte."""

    path: Path
    size: int = 16 * MIB
    checkpoints: list[str] = field(default_factory=list)
    healthy: bool = True
    tracked: bool = True
    format: str = "raw"
    written: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with self.path.open("wb") as file:
            file.truncate(self.size)

    def write(self, offset: int, length: int, byte: int) -> None:
        """What a guest does."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes([byte]) * length)
        self.written.append((offset, length, byte))

    @property
    def dirty_bytes(self) -> int:
        clusters = {
            at // CLUSTER
            for start, length, dummy in self.written
            for at in range(start, start + length, CLUSTER)
        }
        return CLUSTER * len(clusters)


@dataclass
class Hypervisor:
    """One host with its VMs, taking part in sessions over the API."""

    client: httpx.AsyncClient
    host: str
    vms: dict[str, dict[str, Disk]]

    async def step(self, session: str, step: str, facts: Body, wait_s: float = 20) -> Body:
        """Send one step; the answer, whatever its status."""
        path = f"/api/v1/sessions/{session}/participants/{self.host}/steps"
        body = {"step": step, "facts": facts, "wait_s": wait_s}
        answer: Body = (await self.client.post(path, json=body)).json()
        return answer

    async def join(self, session: str, wait_s: float = 20) -> Body:
        return await self.step(session, "joined", {"vms": [self.report(vm) for vm in self.vms]}, wait_s)

    async def cut(self, session: str) -> Body:
        """From the plan to the cut: prepared, stopped, cut; the first answer that is no order to go on."""
        for step, facts, expected in (
            ("prepared", {}, "stop"),
            ("stopped", {"vms": [{"vm": vm, "consistency": "crash"} for vm in self.vms]}, "cut"),
            ("cut", {"vms": [self.cut_facts(vm) for vm in self.vms]}, "transfer"),
        ):
            answer = await self.step(session, step, facts)
            if answer.get("order") != expected:
                break
        return answer

    async def transfer(self, session: str, plan: Body) -> Body:
        """Send every disk's data, reporting progress, and wait for the commit."""
        for vm in plan["vms"]:
            for planned in vm["disks"]:
                disk = self.vms[vm["vm"]][planned["disk"]]
                try:
                    await self.send(plan["transport"], planned, disk)
                except CommandFailed as error:
                    return await self.step(session, "failed", {"reason": f"VM {vm['vm']}: {error.stderr}"}, 0)
                progress = self._progress(vm["vm"], planned["disk"])
                await self.step(session, "transferring", {"disks": [progress]}, 0)
        return await self.step(session, "transferred", {"disks": list(self._sent())})

    async def finish(self, session: str, *, committed: bool) -> Body:
        """Keep the new checkpoints and drop the old ones, or the other way round."""
        for disk in self._disks():
            if committed:
                disk.checkpoints, disk.written, disk.healthy = [session], [], True
        return await self.step(session, "finished", {"removed": []}, 0)

    async def back_up(self, session: str) -> Body:
        """Take part from beginning to end; the last order before leaving."""
        answer = await self.join(session)
        if answer.get("order") == "prepare":
            plan = answer["plan"]
            answer = await self.cut(session)
            if answer.get("order") == "transfer":
                answer = await self.transfer(session, plan)
        if answer.get("order") in ("finish", "abort"):
            await self.finish(session, committed=answer["order"] == "finish")
        return answer

    async def send(self, transport: Body, planned: Body, disk: Disk) -> None:
        """Push a disk's data to its export, all or what was written since its parent."""
        with tempfile.TemporaryDirectory() as keys:
            write_key(Path(keys), transport["psk_username"], transport["psk_key"])
            await subprocesses.run(_sending(transport, planned, disk, keys), timeout_s=60)

    def report(self, vm: str) -> Body:
        return {
            "vm": vm,
            "running": True,
            "agent": "absent",
            "qemu_version": "7.2.22",
            "capabilities": ["copy-before-write"],
            "disks": [self._disk_report(name, disk) for name, disk in self.vms[vm].items()],
        }

    def cut_facts(self, vm: str) -> Body:
        disks = [
            {"disk": name, "dirty_bytes": disk.dirty_bytes, "virtual_size": disk.size}
            for name, disk in self.vms[vm].items()
        ]
        return {"vm": vm, "pause_ms": 20.5, "consistency": "crash", "disks": disks}

    def _disk_report(self, name: str, disk: Disk) -> Body:
        return {
            "disk": name,
            "node": f"disk-{name}",
            "format": disk.format,
            "virtual_size": disk.size,
            "tracked": disk.tracked,
            "persistent": False,
            "granularity": CLUSTER,
            "bitmaps": [
                {"point": point, "healthy": disk.healthy, "dirty_bytes": disk.dirty_bytes}
                for point in disk.checkpoints
            ],
        }

    def _progress(self, vm: str, name: str) -> Body:
        size = self.vms[vm][name].size
        return {"vm": vm, "disk": name, "done_bytes": size, "total_bytes": size, "sent_bytes": size}

    def _sent(self) -> Iterable[Body]:
        for vm, disks in self.vms.items():
            for name, disk in disks.items():
                yield {"vm": vm, "disk": name, "sent_bytes": disk.size}

    def _disks(self) -> Iterable[Disk]:
        for disks in self.vms.values():
            yield from disks.values()


def _sending(transport: Body, planned: Body, disk: Disk, keys: str) -> list[str]:
    user = transport["psk_username"]
    credentials = f"tls-creds-psk,id=psk,endpoint=client,dir={keys},username={user},priority={TLS_PRIORITY}"
    export = f"driver=nbd,host=127.0.0.1,port={transport['port']},export={planned['export']},tls-creds=psk"
    if planned["level"] == "full":
        source = f"driver=raw,file.driver=file,file.filename={disk.path}"
        options = ["--image-opts", "--target-image-opts"]
        return ["qemu-img", "convert", "--object", credentials, "-n", *options, source, export]
    writes = [f"write -P {byte} {offset} {length}" for offset, length, byte in disk.written]
    commands = [argument for write in [*writes, "flush"] for argument in ("-c", write)]
    return ["qemu-io", "--object", credentials, "--image-opts", export, *commands]


async def open_session(client: httpx.AsyncClient, hosts: list[str], **options: Any) -> str:
    """Open a session of the group nightly; its id."""
    answer = await client.post("/api/v1/sessions", json={"group": "nightly", "hosts": hosts, **options})
    assert answer.status_code == 201, answer.text
    session: str = answer.json()["id"]
    return session


async def back_up_together(client: httpx.AsyncClient, hypervisors: list[Hypervisor], **options: Any) -> str:
    """One session with all hosts, to its end; its id."""
    session = await open_session(client, [each.host for each in hypervisors], **options)
    await asyncio.gather(*(each.back_up(session) for each in hypervisors))
    return session


async def compare(disk: Disk, layer: Path) -> None:
    """Hold a disk's content against a layer with its chain.

    :raise CommandFailed: they differ
    """
    argv = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(disk.path), str(layer)]
    await subprocesses.run(argv, timeout_s=60)
