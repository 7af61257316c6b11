# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""instant_restore: a VM starts from the receiver, lives through its death, and moves while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import backups
import cut_off
import pytest
import restored
from machine import Machine, wait_for
from restored import Site, paused, processes, require_moved

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("iothreads", [False, True])
def test_a_vm_runs_from_the_receiver_and_moves_while_it_runs(site: Site, iothreads: bool) -> None:
    site.machine.iothreads = iothreads
    foreseen = site.act("served", check=True)
    assert (foreseen["changed"], list(site.machine.dest.iterdir()), site.leases()) == (True, [], [])
    served = site.act("served")
    assert served["changed"]
    assert [disk["disk"] for disk in served["disks"]] == ["vd-a", "vd-b"]
    assert served["disks"][0]["device"] == "virtio-blk-pci,id=vd-a,drive=disk-vd-a,rerror=stop,werror=stop"
    assert [lease["point"] for lease in site.leases()] == [site.point]
    assert (site.state / "tender.json").stat().st_mode & 0o777 == 0o600
    again = site.act("served")
    assert not again["changed"], again
    vm = site.boot()
    vm.wait_writes(10)
    assert not site.act("served")["changed"]
    moved = site.act("moved")
    assert (moved["changed"], moved["finished"]) == (True, True)
    require_moved(site)
    site.receiver.kill()
    vm.wait_writes(10)
    assert vm.write_errors() == 0
    vm.stop()
    site.require_disks()
    site.receiver.start()
    again = site.act("moved")
    assert (again["changed"], again["finished"]) == (False, True)


def test_the_next_backup_is_incremental_and_restores_bit_identically(site: Site, tmp_path: Path) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(10)
    # one from the overlay, and one from the disk that has moved
    for _stage in ("served", "moved"):
        copies = {image.name: tmp_path / f"truth-{image.name}.qcow2" for image in vm.images}
        copy = "; ".join(f"cp {vm.path(name)} {path}" for name, path in copies.items())
        result = backups.back_up(vm, site.receiver, cut_hook=f"sh -c '{copy}'")
        assert backups.levels(result) == {"vd-a": "incremental", "vd-b": "incremental"}
        for name, truth in copies.items():
            backups.assert_same(site.receiver.layer(vm.name, f"vd-{name}", result["point"]), truth)
        site.act("moved")
    assert vm.write_errors() == 0


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_the_vm_waits_for_a_receiver_that_is_gone(site: Site, how: str) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(10)
    stopped = [] if how == "killed" else processes(site.receiver)
    if how == "killed":
        site.receiver.kill()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    # the monitor answers all the time
    wait_for(lambda: vm.status() == "io-error", "the VM to pause", 60)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    if how == "killed":
        site.receiver.start()
    wait_for(lambda: vm.status() == "running", "the VM to go on", 60)
    vm.wait_writes(10)
    assert vm.write_errors() == 0
    site.act("moved")
    vm.stop()
    site.require_disks()


def test_an_export_that_ends_is_replaced_before_the_vm_pauses(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(5)
    for pid in site.receiver.daemons():
        os.kill(pid, signal.SIGKILL)
    vm.wait_writes(10)
    log = (site.state / "tender.log").read_text()
    assert "the receiver is lost" in log
    assert "goes on" not in log
    assert (vm.status(), vm.write_errors()) == ("running", 0)


def test_a_vm_that_would_see_the_error_waits_instead(site: Site) -> None:
    site.machine.on_error = "report"
    site.act("served")
    vm = site.boot()
    vm.wait_writes(10)
    assert "has rerror report" in site.refuse("moved")["msg"]
    site.receiver.kill()
    log = site.state / "tender.log"
    wait_for(lambda: "its reads wait" in log.read_text(), "the tender to see what the VM is like", 60)
    # as long as a VM with rerror=stop would have been given
    before = vm.serial().read_bytes()
    wait_for(lambda: log.stat().st_mtime + 15 < _now(), "time to pass", 60)
    site.receiver.start()
    vm.wait_writes(10)
    assert (before.count(b"E"), vm.write_errors()) == (0, 0)
    vm.stop()
    assert site.act("moved")["finished"]
    site.require_disks()


def _now() -> float:
    import time

    return time.time()


def test_a_tender_that_was_killed_is_started_again(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(10)
    site.kill_tender()
    wait_for(lambda: vm.status() == "io-error", "the VM to pause", 60)
    inodes = [vm.path(image.name).stat().st_ino for image in vm.images]
    assert site.act("served")["changed"]
    assert [vm.path(image.name).stat().st_ino for image in vm.images] == inodes
    wait_for(lambda: vm.status() == "running", "the VM to go on", 60)
    vm.wait_writes(10)
    assert vm.write_errors() == 0
    vm.stop()
    site.act("moved")
    site.require_disks()


def test_giving_up_loses_nothing_by_accident(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(5)
    for force in (False, True):
        assert site.refuse("absent", force=force)["error"]["code"] == "file-in-use"
    vm.stop()
    refused = site.refuse("absent")
    assert "holds what VM" in refused["msg"]
    assert site.act("absent", force=True)["changed"]
    assert (list(vm.dest.iterdir()), site.leases(), site.tender_pid()) == ([], [], None)
    assert not site.act("absent")["changed"]
    assert site.act("served")["changed"]
    assert site.act("absent")["changed"]


def test_what_does_not_exist_or_is_not_ours(site: Site) -> None:
    assert site.refuse("served", point="01JD50BR1C8Q2W3E4R5T6Y7V8A")["error"]["code"] == "point-unknown"
    assert site.refuse("served", vm="mail")["error"]["code"] == "vm-unknown"
    assert site.refuse("served", disks=["vd-x"])["error"]["code"] == "disk-unknown"
    assert "create it first" in site.refuse("served", dest=str(site.base / "none"))["msg"]
    assert (
        site.refuse("served", receiver_url="https://127.0.0.1:9")["error"]["code"] == "receiver-unreachable"
    )
    assert "is not being restored into" in site.refuse("moved")["msg"]
    stranger = site.machine.path("b")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", stranger, "1M"], check=True)
    before = stranger.read_bytes()
    assert site.refuse("served")["error"]["code"] == "file-exists"
    assert stranger.read_bytes() == before
    assert site.leases() == []
    stranger.unlink()
    site.act("served")
    other = site.refuse("served", disks=["vd-a"])
    assert "is already being restored" in other["msg"]


def test_a_host_without_nbdkit_is_told_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("qemu-img", "qemu-io"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tools))
    refused = site.refuse("served")
    assert refused["error"]["code"] == "dependency-missing"
    assert "nbdkit is not installed" in refused["msg"]
    assert (list(site.machine.dest.iterdir()), site.leases(), site.state.exists()) == ([], [], False)


def test_a_lease_that_was_ended_is_taken_again(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(5)
    lease = site.leases()[0]["id"]
    released = site.receiver.command("lease", "release", lease)
    assert released.returncode == 0, released.stderr
    wait_for(lambda: vm.status() == "io-error", "the VM to pause", 60)
    assert "was released or has expired" in (site.state / "tender.log").read_text()
    assert site.act("served")["changed"]
    assert [each["id"] for each in site.leases()] != [lease]
    wait_for(lambda: vm.status() == "running", "the VM to go on", 60)
    vm.wait_writes(5)
    assert vm.write_errors() == 0


def test_the_vm_waits_for_a_receiver_that_is_cut_off(
    make_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    (tmp_path / "receiver").mkdir()
    with (
        cut_off.far_receiver(tmp_path / "receiver") as receiver,
        restored.site(make_machine(rounds=0), receiver, tmp_path) as site,
    ):
        site.act("served")
        vm = site.boot()
        vm.wait_writes(5)
        receiver.pull()
        wait_for(lambda: vm.status() == "io-error", "the VM to pause", 60)
        receiver.plug()
        wait_for(lambda: vm.status() == "running", "the VM to go on", 60)
        vm.wait_writes(5)
        assert not site.act("moved", wait=False, speed=2 << 20)["finished"]
        receiver.pull()
        wait_for(lambda: vm.status() == "io-error" or paused(vm), "VM or move to pause", 60)
        receiver.plug()
        assert site.act("moved")["finished"]
        assert vm.write_errors() == 0
        vm.stop()
        site.require_disks()
