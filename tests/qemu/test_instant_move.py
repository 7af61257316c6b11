# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""instant_restore: the disks move to the hypervisor, while the VM runs or not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import backups
import modules
import pytest
import restored
from machine import Image, Machine, wait_for
from receiving import ReceiverProcess
from restored import Site, paused, processes, require_moved

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_the_move_waits_for_a_receiver_that_is_gone(site: Site, how: str) -> None:
    site.act("served")
    vm = site.boot()
    # slow enough to be in the middle
    slow = {"speed": 2 << 20, "wait": False}
    begun = site.act("moved", **slow)
    assert not begun["finished"]
    stopped = [] if how == "killed" else processes(site.receiver)
    if how == "killed":
        site.receiver.kill()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: vm.status() == "io-error" or paused(vm), "VM or move to pause", 60)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    if how == "killed":
        site.receiver.start()
    assert site.act("moved")["finished"]
    require_moved(site)
    wait_for(lambda: vm.status() == "running", "the VM to go on")
    vm.wait_writes(10)
    assert vm.write_errors() == 0
    vm.stop()
    site.require_disks()


def test_a_move_without_waiting_is_done_step_by_step(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(10)
    progress = []

    def finished() -> bool:
        result = site.act("moved", wait=False)
        progress.append(result["progress"])
        return bool(result["finished"])

    assert not finished()
    wait_for(lambda: {job["status"] for job in vm.command("query-jobs")} == {"pending"}, "the copying", 120)
    wait_for(finished, "the move", 120)
    assert {entry["disk"] for entry in progress[0]} == {"vd-a", "vd-b"}
    require_moved(site)
    # libvirt and every backup ask for the nodes, and with a job that is left over QEMU 7.2 dies of that
    assert vm.command("query-jobs") == []
    assert {"disk-a", "disk-b"} <= {node["node-name"] for node in vm.command("query-named-block-nodes")}
    vm.wait_writes(5)
    vm.stop()
    site.require_disks()


@pytest.mark.parametrize("iothreads", [False, True])
def test_a_vm_that_paused_when_all_was_copied_goes_on_without_the_receiver(
    site: Site, iothreads: bool
) -> None:
    site.machine.iothreads = iothreads
    site.act("served")
    vm = site.boot()
    vm.wait_writes(5)
    assert not site.act("moved", wait=False)["finished"]
    wait_for(lambda: {job["status"] for job in vm.command("query-jobs")} == {"pending"}, "the copying", 120)
    site.receiver.kill()
    # It writes where there are zeros, which are still read from the receiver.
    wait_for(lambda: vm.status() == "io-error", "the VM to pause", 60)
    site.act("moved", wait=False)
    vm.wait_writes(5)
    result = site.act("moved")
    assert (result["finished"], vm.status(), vm.write_errors()) == (True, "running", 0)
    (warning,) = result["warnings"]
    assert f"of point {site.point} could not be released; it ends by itself" in str(warning)
    site.receiver.start()
    (lease,) = site.leases()
    site.receiver.command("lease", "release", lease["id"])
    require_moved(site)
    vm.stop()
    site.require_disks()


def test_a_move_that_somebody_cancels_says_so_and_is_begun_again(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    running = modules.start("instant_restore", **site.arguments("moved", speed=1 << 20))
    wait_for(lambda: len(vm.command("query-jobs")) == 2, "the move to begin", 60)
    vm.command("block-job-cancel", device=vm.command("query-jobs")[0]["id"])
    result = running.result()
    assert result["failed"], result
    assert "was cancelled, or failed; look at the log of QEMU, and run this again." in result["msg"]
    assert (vm.status(), site.act("moved")["finished"]) == ("running", True)
    require_moved(site)
    vm.stop()
    site.require_disks()


def test_a_stopped_vm_is_moved_too(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    vm.wait_writes(10)
    vm.stop()
    assert site.act("moved")["finished"]
    require_moved(site)
    site.require_disks()


def test_a_backup_during_the_move_is_refused_and_harms_nothing(site: Site) -> None:
    site.act("served")
    vm = site.boot()
    site.act("moved", wait=False, speed=1 << 20)
    refused = backups.fail(vm, site.receiver, site.receiver.open())
    assert "in use by the block job livebackup-moving-job-0" in refused["msg"]
    assert site.act("moved")["finished"]
    vm.stop()
    site.require_disks()


def test_disks_without_a_guest_are_exactly_the_point(
    make_machine: Callable[..., Machine], own_receiver: ReceiverProcess, tmp_path: Path
) -> None:
    """Holes included, which the move leaves out; the disk's size is no multiple of a cluster."""
    source = make_machine(images=(Image("a", bytes=(48 << 20) + 512 * 7),), rounds=0)
    with restored.site(source, own_receiver, tmp_path) as site:
        site.act("served")
        assert site.act("moved")["finished"]
        require_moved(site)
        assert restored.content_of(site.machine.path("a")) == site.content["a"]
