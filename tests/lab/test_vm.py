# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests write in order, survive freezing, killing and moving, and leave the product its sockets."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from lab import qemu, topology
from lab.errors import CommandRefused, LabError, NotRunning
from lab.lab import Lab
from lab.topology import DiskSpec, VmSpec, images
from lab.vm import Vm

# Guests boot under emulation, and the machine may be busy.
pytestmark = pytest.mark.timeout(400)


def idle(name: str, disk: DiskSpec, *extra: str) -> VmSpec:
    return VmSpec(name, "hv1", (disk,), guest=False, extra=extra)


def test_every_record_goes_down_the_chain_in_order(guests: dict[str, Vm]) -> None:
    reached = guests["web"].wait_for_record(guests["db"].newest().b + 20)
    app, db = guests["app"].newest(), guests["db"].newest()
    assert reached.b <= reached.a <= app.b <= app.a <= db.b <= db.a


def test_a_frozen_guest_stands_still_and_goes_on_after_the_thaw(guests: dict[str, Vm]) -> None:
    db = guests["db"]
    with db.frozen():
        frozen = db.newest()
        guests["web"].wait_for_record(frozen.b)
        assert guests["app"].newest().a <= frozen.a
        assert db.newest() == frozen
    guests["web"].wait_for_record(frozen.a + 10)


def test_a_killed_machine_goes_on_where_it_was(guests: dict[str, Vm]) -> None:
    app = guests["app"]
    before = app.wait_for_record(5)
    app.kill()
    with pytest.raises(NotRunning):
        app.qmp("query-status")
    app.start()
    app.wait()
    assert app.newest().a >= before.b
    guests["web"].wait_for_record(before.a + 20)


def test_the_end_of_a_host_is_the_end_of_its_machines(lab: Lab, guests: dict[str, Vm]) -> None:
    web = guests["web"]
    before = web.wait_for_record(5)
    lab.host("hv2").kill()
    assert not web.running
    lab.host("hv2").start()
    lab.host("hv2").wait()
    assert not web.running
    web.start()
    web.wait()
    web.wait_for_record(before.b + 10)


def test_a_partition_holds_the_chain_up_and_loses_nothing(lab: Lab, guests: dict[str, Vm]) -> None:
    guests["web"].wait_for_record(5)
    with lab.network.partitioned("hv1", "hv2"):
        told = guests["app"].newest()
        ahead = guests["app"].wait_for_record(told.a + 60)
        assert guests["web"].newest().a <= told.a
    guests["web"].wait_for_record(ahead.a + 10)


def test_the_monitor_and_agent_of_the_product_are_free(guests: dict[str, Vm]) -> None:
    db = guests["db"]
    with db.agent() as ours:
        for path in (qemu.monitor("db"), qemu.agent("db")):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(db.host.path(path)))
                if path.endswith(".qga"):
                    client.sendall(b'{"execute": "guest-ping"}\n')
                assert client.recv(4096)
        ours.execute("guest-ping")
    assert db.qmp("query-status")["running"]


def test_disks_have_the_names_the_product_will_meet(guests: dict[str, Vm]) -> None:
    found = {
        block["qdev"].split("/")[3]: (block["inserted"]["node-name"], block["inserted"]["drv"])
        for block in guests["db"].qmp("query-block")
    }
    assert found == {"vd-a": ("disk-a", "qcow2"), "vd-b": ("disk-b", "qcow2")}


def test_refusals_of_qemu_and_of_the_guest_are_told(guests: dict[str, Vm]) -> None:
    with pytest.raises(CommandRefused, match="QEMU of db refused block-job-cancel"):
        guests["db"].qmp("block-job-cancel", device="none")
    with pytest.raises(CommandRefused, match="The guest of db refused /bin/cat /none"):
        guests["db"].run(["/bin/cat", "/none"])


def test_a_machine_without_a_guest_is_up_at_once_and_has_its_disk(lab: Lab) -> None:
    disk = DiskSpec("a", "/var/lib/livebackup-lab/raw/a.raw", format="raw", size=8 << 20, filesystem=False)
    with lab.vm(idle("raw", disk)).up() as vm:
        assert vm.qmp("query-status")["status"] == "running"
        (block,) = vm.qmp("query-named-block-nodes", flat=True)[:1]
        assert (block["node-name"], block["image"]["virtual-size"]) == ("disk-a", 8 << 20)
        vm.write("a", offset=0, length=64 << 10, pattern=7)
        with vm.paused():
            assert vm.disk_path("a").read_bytes()[: 64 << 10] == b"\x07" * (64 << 10)
    assert not vm.running


def test_copies_of_disks_boot_on_another_host(lab: Lab, guests: dict[str, Vm]) -> None:
    db = guests["db"]
    db.wait_for_record(5)
    lab.host("rcv").run(["mkdir", "-p", "/srv/restored"])
    with db.paused():
        for letter in "ab":
            copy = lab.host("rcv").path(f"/srv/restored/{letter}.qcow2")
            copy.write_bytes(db.disk_path(letter).read_bytes())
    disks = tuple(DiskSpec(letter, f"/srv/restored/{letter}.qcow2") for letter in "ab")
    restored = VmSpec("restored", "rcv", disks, mode="idle", user="root")
    with lab.vm(restored).up() as vm:
        newest = vm.run(["/bin/workload", "report", "db", "/a/records", "/b/records"])
    assert '"b": 0' not in newest


def test_a_writer_stops_politely_when_its_disk_is_full(lab: Lab) -> None:
    disks = tuple(dataclasses.replace(disk, size=16 << 20) for disk in images("full"))
    spec = VmSpec("full", "hv2", disks, rate=100)
    with lab.vm(spec).up() as vm:
        vm.wait_for_record(1)
        vm.run(["/bin/sh", "-c", "dd if=/dev/zero of=/b/filler bs=4k || true"])
        stopped = vm.wait_for_line("workload: stopped at record")
        assert "full/b: No space left on device" in stopped
        newest = vm.newest()
        assert newest.a == newest.b + 1
        assert vm.newest() == newest


def test_a_machine_qemu_refuses_is_reported_with_its_words(lab: Lab) -> None:
    disk = DiskSpec("a", "/var/lib/livebackup-lab/odd/a.qcow2", filesystem=False)
    broken = idle("odd", disk, "-device", "no-such-device")
    with pytest.raises(LabError, match=r"QEMU of odd has ended: .*no-such-device"), lab.vm(broken).up():
        pass


def test_kernel_words_carry_the_place_in_the_chain() -> None:
    words = qemu.kernel_words(topology.vm("app"))
    assert "lab.name=app lab.rate=0 lab.next=10.78.0.12:7003 lab.mode=work" in words
