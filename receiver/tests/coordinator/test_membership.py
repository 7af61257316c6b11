# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from sample_records import session, transfer

from livebackup_receiver.coordinator import membership
from livebackup_receiver.errors import RequiredVmMissing, TooFewVms, VmMissing
from livebackup_receiver.model import (
    MissingVm,
    Participant,
    ParticipantState,
    Policy,
    TransferState,
    Transition,
)

EXPECTED = {"db": "hv1", "web": "hv2"}
GONE = MissingVm(vm="web", host="hv2", reason="hv2 did not report it")


def test_a_vm_on_another_host_is_not_missing() -> None:
    assert membership.absent(session(hosts=["hv1", "hv2"]), EXPECTED, ["web", "db", "new"]) == []


@pytest.mark.parametrize("pattern", ["web", "w*", "*"])
def test_a_vm_that_is_to_be_forgotten_is_not_missing(pattern: str) -> None:
    assert membership.absent(session(hosts=["hv1"], forget_vms=[pattern]), EXPECTED, ["db"]) == []


def test_why_a_vm_does_not_come() -> None:
    failed = Participant(
        host="hv2", state=ParticipantState.FAILED, reason="no QMP", heard_at=session().opened_at
    )
    reasons = [
        membership.absent(record, EXPECTED, ["db"])[0].reason
        for record in (
            session(hosts=["hv1"]),
            session(hosts=["hv1", "hv2"], participants=[failed]),
            session(hosts=["hv1", "hv2"]),
        )
    ]
    assert reasons == [
        "its host hv2 takes no part",
        "hv2 failed: no QMP",
        "hv2 did not report it, so it does not run there or was left out",
    ]


def test_all_does_not_go_on_without_a_vm_of_a_host_that_takes_part() -> None:
    with pytest.raises(VmMissing, match=r"not there now: VM web .*name it in forget_vms"):
        membership.require(session(hosts=["hv1", "hv2"], missing=[GONE]))
    membership.require(session(hosts=["hv1"], missing=[GONE]))
    membership.require(session(hosts=["hv1", "hv2"], missing=[GONE], policy=Policy.EACH))


@pytest.mark.parametrize("policy", list(Policy))
def test_a_required_vm_that_fails_ends_the_session(policy: Policy) -> None:
    disks = [transfer("db"), transfer("web", state=TransferState.FAILED)]
    record = session(policy=policy, disks=disks, required_vms=["db", "web"])
    record.transitions.append(
        Transition(
            at=record.opened_at, subject="web/vd-a", from_="cut", to="failed", reason="its agent hangs"
        )
    )
    with pytest.raises(RequiredVmMissing, match=r"required and not there: VM web \(its agent hangs\)"):
        membership.require(record)


def test_a_vm_of_which_one_disk_is_left_counts_once() -> None:
    disks = [transfer("db", "vd-a"), transfer("db", "vd-b"), transfer("web", state=TransferState.FAILED)]
    membership.require(session(policy=Policy.EACH, disks=disks, min_vms=1))
    with pytest.raises(TooFewVms, match="only 1 VMs are there and min_vms asks for 2"):
        membership.require(session(policy=Policy.EACH, disks=disks, min_vms=2))


def test_a_long_list_of_names_is_cut_short() -> None:
    with pytest.raises(RequiredVmMissing, match="vm09 and 490 more"):
        membership.require(session(required_vms=[f"vm{number:02}" for number in range(500)]))
