# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""tracking: twelve steps, and everything it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeMachine
from machine import MIB, Image, Machine
from modules import run, succeed

MARKER = "livebackup:tracked"


def tracking(vm: Machine, **options: Any) -> dict[str, Any]:
    return succeed("tracking", qmp_sockets=[vm.qmp], **options)


def twelve_steps(vm: Machine, before: Any, after: Any, **options: Any) -> dict[str, Any]:
    """Foresee, do, do again, foresee again; the state seen independently of the module."""
    assert vm.bitmaps() == before
    foreseen = tracking(vm, check=True, **options)
    assert foreseen["changed"]
    assert vm.bitmaps() == before
    done = tracking(vm, **options)
    assert done["changed"]
    assert done["diff"] == foreseen["diff"]
    assert done["vms"] == foreseen["vms"]
    assert vm.bitmaps() == after
    for check in (False, True):
        again = tracking(vm, check=check, **options)
        assert not again["changed"]
        assert again["vms"] == done["vms"]
        assert again["diff"]["before"] == again["diff"]["after"] == done["diff"]["after"]
        assert again["qmp_commands"] == []
    assert vm.bitmaps() == after
    return done


def granularities(vm: Machine) -> set[int]:
    nodes = vm.command("query-named-block-nodes", flat=True)
    return {each["granularity"] for node in nodes for each in node.get("dirty-bitmaps", [])}


def test_twelve_steps(make_machine: MakeMachine) -> None:
    vm = make_machine(paused=True)
    both = {"disk-a": [MARKER], "disk-b": [MARKER]}
    twelve_steps(vm, {}, both)
    assert granularities(vm) == {65536}
    assert not any(
        each["recording"]
        for node in vm.command("query-block")
        for each in node["inserted"].get("dirty-bitmaps", [])
    )
    twelve_steps(vm, both, both, granularity=1048576)
    assert granularities(vm) == {1048576}
    twelve_steps(vm, both, {}, state="absent")
    for check in (False, True):
        assert not tracking(vm, state="absent", check=check)["changed"]


def test_disks_and_exclude(vm: Machine) -> None:
    tracking(vm, disks=["vd-a"])
    assert vm.bitmaps() == {"disk-a": [MARKER]}
    tracking(vm, state="absent")
    tracking(vm, exclude=["vd-a"])
    assert vm.bitmaps() == {"disk-b": [MARKER]}


def test_the_diff_shows_the_bitmaps(small_vm: Machine) -> None:
    diff = tracking(small_vm, check=True)["diff"]
    name = f"{small_vm.name}/vd-a"
    assert diff == {"before": {name: []}, "after": {name: ["livebackup:tracked (granularity 65536)"]}}


def test_absent_takes_all_bitmaps_of_ours_and_no_other(small_vm: Machine) -> None:
    tracking(small_vm)
    for name in ("livebackup:01JD50BR1C8Q2W3E4R5T6Y7V8A", "others"):
        small_vm.command("block-dirty-bitmap-add", node="disk-a", name=name)
    tracking(small_vm, state="absent")
    assert small_vm.bitmaps() == {"disk-a": ["others"]}


def test_the_marker_outlives_an_orderly_stop(small_vm: Machine) -> None:
    tracking(small_vm)
    small_vm.stop()
    small_vm.start()
    assert not tracking(small_vm)["changed"]


def test_an_inconsistent_marker_is_replaced(small_vm: Machine) -> None:
    tracking(small_vm)
    small_vm.stop()
    small_vm.start()
    small_vm.kill()
    small_vm.start()
    result = tracking(small_vm)
    assert result["changed"]
    assert "inconsistent" in str(result["diff"]["before"])
    assert not result["vms"][0]["disks"][0]["bitmaps"][0]["inconsistent"]
    assert not tracking(small_vm)["changed"]


@pytest.mark.parametrize(
    "image", [Image("a", "raw"), Image("a", options=("-o", "compat=0.10"))], ids=["raw", "qcow2 v2"]
)
def test_a_disk_that_cannot_store_bitmaps(make_machine: MakeMachine, image: Image) -> None:
    vm = make_machine(images=(image,), paused=True)
    refused = run("tracking", qmp_sockets=[vm.qmp])
    assert "cannot store a bitmap" in refused["msg"]
    assert "set transient to true" in refused["msg"]
    assert refused["error"]["code"] == "bitmap-not-persistent"
    twelve_steps(vm, {}, {"disk-a": [MARKER]}, transient=True)


def test_nothing_changes_if_one_disk_is_refused(make_machine: MakeMachine) -> None:
    vm = make_machine(images=(Image("a"), Image("b", "raw")), paused=True)
    assert run("tracking", qmp_sockets=[vm.qmp])["failed"]
    assert vm.bitmaps() == {}


@pytest.mark.parametrize("image_format", ["vmdk", "vdi"])
def test_an_unsupported_format(make_machine: MakeMachine, image_format: str) -> None:
    vm = make_machine(images=(Image("a", image_format), Image("b")), paused=True)
    refused = run("tracking", qmp_sockets=[vm.qmp])
    assert f"unsupported format or filter {image_format}" in refused["msg"]
    assert refused["error"]["code"] == "format-unsupported"
    assert tracking(vm, exclude=["vd-a"])["changed"]


def test_an_encrypted_image(make_machine: MakeMachine) -> None:
    secret = ("--object", "secret,id=key,data=top", "-o", "encrypt.format=luks,encrypt.key-secret=key")
    iterations = ("-o", "encrypt.iter-time=10")
    vm = make_machine(
        images=(Image("a", bytes=4 * MIB, options=secret + iterations),), paused=True, secret="top"
    )
    refused = run("tracking", qmp_sockets=[vm.qmp])
    assert "its image is encrypted and the backup would hold its plain content" in refused["msg"]


def test_an_unknown_disk(small_vm: Machine) -> None:
    refused = run("tracking", qmp_sockets=[small_vm.qmp], disks=["vd-x"])
    assert refused["msg"] == f"VM {small_vm.name} has no disk vd-x; its disks are: boot, vd-a."
    assert refused["error"] == {"code": "disk-unknown", "vm": small_vm.name, "disk": "vd-x"}


def test_a_granularity_qemu_does_not_take(small_vm: Machine) -> None:
    refused = run("tracking", qmp_sockets=[small_vm.qmp], granularity=1000)
    assert "not a power of two" in refused["msg"]
