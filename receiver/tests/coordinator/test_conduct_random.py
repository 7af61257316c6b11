# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions under random faults: whatever happens, what is committed is right and nothing else is left."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypervisor import CLUSTER, Disk, Hypervisor, compare, open_session
from serving import Served
from two_hosts import daemons, ended, files_of, make_disks, make_hosts

from livebackup_receiver.config import Config
from livebackup_receiver.model import Session, SessionState
from livebackup_receiver.store.integrity import check_layer

ROUNDS = 6
FAULTS = ("none", "none", "failed", "killed daemon", "abort", "host lost", "host forgot its bitmap")


@pytest.fixture
def config(config: Config) -> Config:
    """A receiver that soon gives up on a host that was lost."""
    return config.model_copy(update={"silence_s": 2.0})


@dataclass
class Chaos:
    """Runs sessions one after the other, each with a fault drawn from a seed."""

    server: Served
    client: httpx.AsyncClient
    hosts: list[Hypervisor]
    disks: dict[tuple[str, str], Disk]
    dice: random.Random

    async def play(self) -> Session:
        """One session with one fault; its record when nothing of it runs any more."""
        for disk in self.disks.values():
            self._write(disk)
        fault = self.dice.choice(FAULTS)
        if fault == "host forgot its bitmap":
            self.dice.choice(list(self.disks.values())).checkpoints = []
        policy = self.dice.choice(["all", "each"])
        session = await open_session(self.client, ["hv1", "hv2"], policy=policy, stop_budget_s=0.1)
        runs = [asyncio.create_task(host.back_up(session)) for host in self.hosts]
        await asyncio.sleep(self.dice.random() * 0.8)
        await self._strike(fault, session, runs)
        await asyncio.wait(runs)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*runs)
        return await ended(self.client, self.server, session)

    async def judge(self, record: Session) -> None:
        """Hold what is left of a session against what its disks hold."""
        assert record.state.ended
        assert await daemons() == []
        kept = {(each.vm, each.disk) for each in record.disks if each.state == "sealed"}
        assert len(files_of(self.server, record.id)) == 3 * len(kept)
        assert bool(kept) == (record.state is SessionState.COMMITTED)
        for key in kept:
            layer = self.server.receiver.store.disk(*key).layer(record.id)
            await compare(self.disks[key], layer)
            assert await check_layer(layer) == 0
        self._reconcile(record, kept)

    def _reconcile(self, record: Session, kept: set[tuple[str, str]]) -> None:
        """What a hypervisor does at its next start, if it was lost."""
        for key in kept:
            self.disks[key].checkpoints, self.disks[key].written = [record.id], []

    async def _strike(self, fault: str, session: str, runs: list[asyncio.Task[dict[str, object]]]) -> None:
        if fault == "failed":
            host = self.dice.choice(self.hosts)
            await host.step(session, "failed", {"reason": "the dice said so"}, 0)
        elif fault == "killed daemon":
            for daemon in await daemons():
                with suppress(ProcessLookupError):
                    os.kill(daemon, signal.SIGKILL)
        elif fault == "abort":
            path = f"/api/v1/sessions/{session}/abort"
            await self.client.post(path, json={"reason": "the dice said so"})
        elif fault == "host lost":
            self.dice.choice(runs).cancel()

    def _write(self, disk: Disk) -> None:
        for dummy in range(self.dice.randrange(4)):
            cluster = self.dice.randrange(disk.size // CLUSTER - 4)
            offset = cluster * CLUSTER + self.dice.choice([0, 512, 4096])
            disk.write(offset, self.dice.choice([512, 4096, 150_000]), self.dice.randrange(256))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
async def test_random_faults(server: Served, tmp_path: Path, seed: int) -> None:
    disks = make_disks(tmp_path)
    async with server.client() as client:
        chaos = Chaos(server, client, make_hosts(client, disks), disks, random.Random(seed))
        for dummy in range(ROUNDS):
            await chaos.judge(await chaos.play())
