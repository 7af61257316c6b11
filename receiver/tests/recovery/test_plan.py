# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be declared of a group's recovery, and in which order its VMs are brought up."""

from __future__ import annotations

from typing import Any

import pytest
from recovery_samples import THREE

from livebackup_receiver.errors import RecoveryPlanInvalid
from livebackup_receiver.recovery.declared import read_plan
from livebackup_receiver.recovery.order import held_up, needed, stages
from livebackup_receiver.recovery.plan import RecoveryPlan, mac_of

PLAN = read_plan(THREE)
NETWORK = {"address": "10.0.0.1/24"}


def test_vms_come_after_those_they_need() -> None:
    assert stages(PLAN, ["batch", "app", "db"]) == [["db"], ["app"], ["batch"]]


def test_a_vm_that_no_plan_names_is_brought_up_at_once() -> None:
    assert stages(PLAN, ["db", "app", "new"]) == [["db", "new"], ["app"]]
    assert stages(RecoveryPlan(), ["b", "a"]) == [["a", "b"]]
    boot = RecoveryPlan().member("new").boot
    assert (boot.memory_mib, boot.cpus) == (1024, 1)


def test_a_vm_that_is_left_out_is_not_waited_for() -> None:
    assert stages(PLAN, ["batch", "db"]) == [["db"], ["batch"]]


def test_with_a_vm_come_all_that_it_needs() -> None:
    assert needed(PLAN, ["app"]) == {"app", "db"}
    assert needed(PLAN, ["db"]) == {"db"}


def test_a_vm_is_held_up_by_what_failed_anywhere_before_it() -> None:
    assert held_up(PLAN, "batch", {"db"}) == "db"
    assert held_up(PLAN, "db", {"app"}) is None
    assert held_up(PLAN, "new", {"db"}) is None


def test_a_card_has_the_same_address_every_time_and_no_other_has_it() -> None:
    assert mac_of("db", 0) == mac_of("db", 0)
    assert len({mac_of("db", 0), mac_of("db", 1), mac_of("app", 0)}) == 3
    assert mac_of("db", 0).startswith("52:54:00:")


def members(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"members": list(parts)}


def booted(**boot: Any) -> dict[str, Any]:
    return members({"vm": "db", "boot": boot})


def checked(**check: Any) -> dict[str, Any]:
    return members({"vm": "db", "checks": [{"name": "port", **check}]}) | {"network": NETWORK}


WRONG: list[tuple[Any, str]] = [
    (["db"], "recovery plan: Input should be a valid dictionary"),
    ({"membres": []}, "recovery plan, membres: there is no such key"),
    (members({"vm": "db", "affter": []}), "recovery plan, members.0.affter: there is no such key"),
    (members({"vm": "../db"}), "'../db' is not the name of a VM or disk"),
    (members({"vm": "db"}, {"vm": "db"}), "VM db is named twice"),
    (members({"vm": "db", "after": ["app"]}), "VM db comes after app, which is no member of the plan"),
    (members({"vm": "db", "after": ["db"]}), "nothing could be first: VM db after db"),
    (
        members({"vm": "a", "after": ["b"]}, {"vm": "b", "after": ["a"]}),
        "nothing could be first: VM a after b after a",
    ),
    (booted(memory_mib="2048"), "members.0.boot.memory_mib: Input should be a valid integer"),
    (booted(initrd="initrd.img"), "initrd and append are for a kernel"),
    (booted(kernel="../../etc/shadow"), "is not a file below the receiver's rehearsal_files directory"),
    (booted(kernel="/boot/vmlinuz"), "is not a file below the receiver's rehearsal_files directory"),
    (booted(disk_bus="ide"), "the disk_bus ide is one of the machine pc"),
    (booted(disks=["a", "a"]), "disk a is named twice"),
    (booted(nics=[{"mac": "53:54:00:00:00:01"}]), "is not the address of a card"),
    (booted(nics=[{"address": "10.0.0"}]), "'10.0.0' is not an IPv4 address"),
    (members({"vm": "db", "ready": {"timeout_s": 10}}), "say how it is seen that a guest is ready"),
    (members({"vm": "db", "ready": {"console": "("}}), "is not a regular expression"),
    (checked(), "a check is one of command"),
    (checked(tcp=22, http="http://10.0.0.2/"), "a check is one of command"),
    (checked(tcp=22), "check port of VM db needs an address; give one to a card"),
    (checked(http="http://db/"), "'db' is not an IPv4 address"),
    (checked(http="ftp://10.0.0.2/"), "is not an address of HTTP"),
    (checked(tcp=22, address="10.0.0.2") | {"network": None}, "goes over a network; declare one"),
    ({"network": {"address": "10.0.0.0/24"}}, "is not the address of a host in a network"),
    (booted(nics=[{"address": "10.0.1.2"}]) | {"network": NETWORK}, "10.0.1.2 is not in the network"),
    (booted(nics=[{"address": "10.0.0.1"}]) | {"network": NETWORK}, "the address 10.0.0.1 is used twice"),
    ({"schedule": "sometimes"}, "'sometimes' is not a schedule"),
    ({"time_zone": "Berlin"}, "there is no time zone 'Berlin'"),
]


@pytest.mark.parametrize(("content", "words"), WRONG)
def test_what_cannot_be_meant_is_said_in_a_sentence(content: Any, words: str) -> None:
    with pytest.raises(RecoveryPlanInvalid) as caught:
        read_plan(content)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; correct it; nothing was changed")
