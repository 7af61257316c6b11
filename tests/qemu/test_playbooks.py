# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks restore and rollback, with a real receiver and real images."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backups
import plays
import pytest
from conftest import MakeMachine
from machine import MIB, Image, Machine, wait_for
from receiving import ReceiverProcess


@dataclass
class Site:
    """A VM with a qcow2 and a raw disk, two points, and copies of the disks at each and now."""

    vm: Machine
    receiver: ReceiverProcess
    points: list[str]

    def truth(self, name: str, disk: str) -> Path:
        return self.vm.directory / f"truth-{name}-{disk}.raw"

    def keep(self, name: str) -> None:
        for image in self.vm.images:
            source = self.vm.path(image.name)
            command = ["qemu-img", "convert", "-U", "-f", image.format, "-O", "raw"]
            subprocess.run([*command, source, self.truth(name, image.name)], check=True)

    def assert_holds(self, name: str) -> None:
        for image in self.vm.images:
            compare = ["qemu-img", "compare", "-U", "-f", image.format, "-F", "raw"]
            done = subprocess.run(
                [*compare, self.vm.path(image.name), self.truth(name, image.name)], check=False
            )
            assert done.returncode == 0, image.name

    def variables(self, **more: Any) -> dict[str, Any]:
        return plays.variables(self.vm, self.receiver, **more)

    def rollback(self, point: str, **more: Any) -> dict[str, Any]:
        disks = [
            {"name": f"vd-{image.name}", "file": str(self.vm.path(image.name)), "format": image.format}
            for image in self.vm.images
        ]
        given = {"livebackup_rollback_vm": self.vm.name, "livebackup_rollback_point": point}
        return self.variables(**{**given, "livebackup_rollback_disks": disks, **more})

    def saved(self) -> list[str]:
        """The points of the states before, newest first."""
        group = f"rollback-{self.vm.name}"
        answer = self.receiver.call("GET", f"/points?group={group}", role="read")
        return [point["id"] for point in answer.get("points", [])]


@pytest.fixture
def site(make_machine: MakeMachine, receiver: ReceiverProcess) -> Site:
    vm = make_machine(images=(Image("a"), Image("b", format="raw")), rounds=0)
    backups.track(vm, transient=True)
    found = Site(vm, receiver, [])
    for number in (1, 2, 3):
        for image in vm.images:
            vm.write(image.name, pattern=number, offset=number * MIB, count=2 * MIB)
        if number < 3:
            found.points.append(backups.back_up(vm, receiver)["point"])
        found.keep(str(number))
    return found


def test_restore(site: Site, tmp_path: Path) -> None:
    restored = tmp_path / "restored"
    vms = [{"vm": site.vm.name}, {"vm": site.vm.name, "as": "copy", "disks": ["vd-a"]}]
    common = {"livebackup_restore_point": site.points[0], "livebackup_restore_to": str(restored)}
    given = site.variables(**common, livebackup_restore_vms=vms)
    plays.succeed("restore", given, "--check")
    assert not restored.exists()
    said = plays.succeed("restore", given)
    for path in (restored / site.vm.name / "vd-a.qcow2", restored / "copy" / "vd-a.qcow2"):
        backups.assert_same(path, site.truth("1", "a"))
        assert f"{path}: 2.00 MB fetched, 0.00 Bytes were there" in said
    backups.assert_same(restored / site.vm.name / "vd-b.qcow2", site.truth("1", "b"))
    described = {
        name: subprocess.run(
            ["qemu-img", "info", restored / name / "vd-a.qcow2"], capture_output=True, text=True, check=True
        ).stdout
        for name in (site.vm.name, "copy")
    }
    assert f"livebackup:{site.points[0]}" in described[site.vm.name]
    assert "livebackup:" not in described["copy"]
    assert "changed=0" in plays.succeed("restore", given)
    # two of one name
    twice = site.variables(**common, livebackup_restore_vms=[{"vm": site.vm.name}] * 2)
    assert f"gives a name on hv1 twice: {site.vm.name}, {site.vm.name}" in flat(plays.fail("restore", twice))
    # another point over these files: only with force
    newer = {**given, "livebackup_restore_point": site.points[1]}
    assert "set force to true to replace it" in flat(plays.fail("restore", newer))
    forced = {**newer, "livebackup_restore_force": True, "livebackup_restore_delta": True}
    assert "1.00 MB were there" in plays.succeed("restore", forced)
    backups.assert_same(restored / "copy" / "vd-a.qcow2", site.truth("2", "a"))


def test_a_running_vm_is_not_rolled_back(site: Site) -> None:
    said = flat(plays.fail("rollback", site.rollback(site.points[0])))
    assert f"VM {site.vm.name} runs; shut it down, then roll it back." in said
    hidden = site.rollback(site.points[0], livebackup_qmp_sockets=["/none/*.qmp"])
    said = flat(plays.fail("rollback", hidden))
    assert "is in use by another process, perhaps a running VM" in said
    site.assert_holds("3")
    assert site.saved() == []


def test_roll_back_and_undo(site: Site) -> None:
    first = site.points[0]
    site.vm.stop()
    plays.succeed("rollback", site.rollback(first), "--check")
    site.assert_holds("3")
    said = flat(plays.succeed("rollback", site.rollback(first)))
    site.assert_holds("1")
    (saved,) = site.saved()
    assert f"VM {site.vm.name} is at the restore point {first}." in said
    assert f"Its state before is the restore point {saved} of group rollback-{site.vm.name}" in said
    # there is nothing to do a second time, and nothing to save
    assert "changed=0" in plays.succeed("rollback", site.rollback(first))
    assert site.saved() == [saved]
    plays.succeed("rollback", site.rollback(saved))
    site.assert_holds("3")
    # the VM goes on from there
    site.vm.start()
    backups.track(site.vm, transient=True)
    result = backups.back_up(site.vm, site.receiver)
    disks = {disk["disk"]: disk for disk in result["vms"][0]["disks"]}
    assert (disks["vd-a"]["level"], disks["vd-a"]["parent"]) == ("incremental", saved)


def test_what_cannot_be_rolled_back(site: Site) -> None:
    site.vm.stop()
    given = site.rollback(site.points[0])
    one = {**given, "livebackup_rollback_disks": given["livebackup_rollback_disks"][:1]}
    assert "has no file of vd-b, which the restore point holds" in flat(plays.fail("rollback", one))
    unknown = {**given, "livebackup_rollback_point": "01JD50BR1C8Q2W3E4R5T6Y7V8A"}
    assert "01JD50BR1C8Q2W3E4R5T6Y7V8A" in flat(plays.fail("rollback", unknown))
    other = {**given, "livebackup_rollback_vm": "mail"}
    assert "holds no VM mail" in flat(plays.fail("rollback", other))
    site.assert_holds("3")
    assert site.saved() == []


def test_a_rollback_that_could_not_save_the_state_before_changes_nothing(site: Site) -> None:
    site.vm.stop()
    bitmaps = ["livebackup:tracked", *(f"livebackup:{kind}{site.points[1]}" for kind in ("", "end:"))]
    for name in bitmaps:
        subprocess.run(["qemu-img", "bitmap", "--remove", site.vm.path("a"), name], check=True)
    said = flat(plays.fail("rollback", site.rollback(site.points[0])))
    assert f"lacks vd-a of VM {site.vm.name}, so nothing was rolled back" in said
    site.assert_holds("3")


def test_a_rollback_that_was_broken_off_is_repeated(site: Site) -> None:
    """After one of two disks: the first saved point is the state before, and every run ends right."""
    site.vm.stop()
    first = site.points[0]
    given = site.rollback(first)
    # the second format cannot be replaced, as if the run had been killed there
    raw = site.vm.path("b")
    given["livebackup_rollback_disks"].reverse()
    blocker = raw.with_name(f".{site.vm.path('a').name}.livebackup-partial")
    blocker.mkdir()
    plays.fail("rollback", given)
    (saved,) = site.saved()
    blocker.rmdir()
    plays.succeed("rollback", given)
    site.assert_holds("1")
    assert site.saved()[-1] == saved
    plays.succeed("rollback", site.rollback(saved))
    site.assert_holds("3")


def test_a_rollback_whose_controller_is_killed_goes_on_or_is_repeated(site: Site) -> None:
    site.vm.stop()
    given = site.rollback(site.points[0])
    killed = plays.start("rollback", given)
    group = f"rollback-{site.vm.name}"

    def opened() -> list[Any]:
        sessions: list[Any] = site.receiver.call("GET", f"/sessions?group={group}", role="read")["sessions"]
        return sessions

    wait_for(opened, "the session", 180)
    killed.kill()
    killed.communicate()
    plays.succeed("rollback", given)
    site.assert_holds("1")
    plays.succeed("rollback", site.rollback(site.saved()[-1]))
    site.assert_holds("3")


def flat(said: str) -> str:
    """Ansible's output without its line breaks and marks of quotation."""
    return re.sub(r"\s+", " ", said.replace("\\n", " "))
