# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""instant_restore: the hypervisor dies during the move; what was flushed is there, and the rerun works."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import modules
import pytest
import restored
from machine import MIB, Image, Machine, wait_for
from receiving import ReceiverProcess
from restored import Site, content_of

pytestmark = pytest.mark.timeout(600)

RECORD = 64 << 10
SIZE = 16 * MIB
KILLS = int(os.environ.get("LIVEBACKUP_TEST_KILLS", "5"))


@pytest.fixture
def site(make_machine: Callable[..., Machine], receiver: ReceiverProcess, tmp_path: Path) -> Iterator[Site]:
    """A point of a VM with one disk, to which only the test writes; the VM is gone."""
    with restored.site(make_machine(images=(Image("a", bytes=SIZE),), rounds=0), receiver, tmp_path) as made:
        made.machine.rounds = 0
        yield made


class Records:
    """What a guest has written to a disk and flushed, over what was there."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._expected = bytearray(site.content["a"])
        self._unsure: int | None = None

    def write(self) -> None:
        """Write and flush a record, a part of a cluster; the VM may be killed meanwhile."""
        offset = self._random.randrange(SIZE // RECORD) * RECORD + self._random.choice((0, 4096))
        pattern = self._random.randrange(1, 256)
        self._unsure = offset
        self._site.machine.write("a", pattern=pattern, offset=offset, count=RECORD // 4)
        self._flush()
        self._expected[offset : offset + RECORD // 4] = bytes([pattern]) * (RECORD // 4)
        self._unsure = None

    def _flush(self) -> None:
        device = "/machine/peripheral/vd-a/virtio-backend"
        command = f'qemu-io -d {device} "flush"'
        answer = self._site.machine.command("human-monitor-command", command_line=command)
        assert "rror" not in answer, answer

    def require(self) -> None:
        """See that the overlay, which nobody has open, holds it all."""
        held = content_of(self._site.machine.path("a"))
        wrong = [at for at in range(0, SIZE, 4096) if held[at : at + 4096] != self._expected[at : at + 4096]]
        if self._unsure is not None:
            start = self._unsure
            wrong = [at for at in wrong if not start <= at < start + RECORD // 4]
            self._expected[start : start + RECORD // 4] = held[start : start + RECORD // 4]
        assert not wrong, (len(wrong), wrong[:8])


def store_of(receiver: ReceiverProcess, vm: str) -> dict[str, str]:
    """A digest of each file of a VM at the receiver."""
    files = (path for path in (receiver.store / "vms" / vm).rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def die(site: Site, running: modules.Running | None = None) -> None:
    """QEMU, tender and module end as if the host had."""
    site.machine.kill()
    site.kill_tender()
    if running is not None:
        running.kill()


def job_status(vm: Machine) -> str | None:
    """Of the move's job."""
    return next((job["status"] for job in vm.command("query-jobs")), None)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_host_that_dies_at_any_moment_of_the_move(site: Site, seed: int) -> None:
    site.act("served")
    before = store_of(site.receiver, site.machine.name)
    records, moments = Records(site, seed), random.Random(seed)
    for _kill in range(KILLS):
        vm = site.boot()
        running = modules.start("instant_restore", **site.arguments("moved", speed=12 * MIB))
        for _write in range(moments.randrange(1, 14)):
            records.write()
        die(site, running)
        if site.state.exists():
            site.act("served")
        records.require()
        assert store_of(site.receiver, vm.name) == before
    site.boot()
    assert site.act("moved")["finished"]
    records.write()
    site.machine.stop()
    site.kill_tender()
    records.require()
    assert site.leases() == [] or all(lease["vm"] != site.machine.name for lease in site.leases())


def test_a_host_that_dies_when_all_is_copied_and_nothing_is_let_go(site: Site) -> None:
    """What QEMU 7.2 would lose: the backing file's name would be gone, and the tables not yet written."""
    site.act("served")
    records = Records(site, 3)
    vm = site.boot()
    records.write()
    assert not site.act("moved", wait=False)["finished"]
    wait_for(lambda: job_status(vm) == "pending", "the end of the copying", 120)
    records.write()
    die(site)
    site.act("served")
    records.require()
    vm = site.boot()
    running = modules.start("instant_restore", **site.arguments("moved"))
    wait_for(lambda: job_status(vm) is not None, "the move to begin", 120)
    wait_for(lambda: job_status(vm) in ("concluded", None), "the job to be let go", 120)
    die(site, running)
    # there may be no tender any more, and none is needed
    records.require()
    assert site.act("moved")["finished"]
    records.require()


def test_a_module_that_dies_is_taken_over(site: Site) -> None:
    site.act("served")
    records = Records(site, 4)
    vm = site.boot()
    running = modules.start("instant_restore", **site.arguments("moved", speed=4 * MIB))
    wait_for(lambda: job_status(vm) == "running", "the move to begin", 60)
    running.kill()
    records.write()
    assert site.act("moved")["finished"]
    assert job_status(vm) is None
    records.write()
    vm.stop()
    records.require()
