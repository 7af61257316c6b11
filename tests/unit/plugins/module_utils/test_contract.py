# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests are as in the contract's examples, and its answers are understood."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _credentials,
    _cut,
    _heads,
    _participant,
    _plan,
    _receiver,
    _report,
    _session,
    _transfer,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverError, ReceiverRefused
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members
from ansible_collections.livebackup.qemu.plugins.module_utils._pause import Pause
from ansible_collections.livebackup.qemu.plugins.module_utils._steps import Answer
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap
from blake3 import blake3

EXAMPLES = Path(__file__).parents[3] / "contract/examples"


def shape(value: Any) -> Any:
    """The keys and types of a JSON value; of a list, its first element's."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


@pytest.fixture
def vm(make_vm: Any, make_disk: Any, points: Any) -> Any:
    size = 10737418240
    marker, checkpoint, end = (
        Bitmap("disk-a", "livebackup:tracked"),
        Bitmap("disk-a", f"livebackup:{points[0]}", dirty_bytes=9),
        Bitmap("disk-a", f"livebackup:end:{points[0]}", dirty_bytes=9, recording=False),
    )
    first = make_disk(marker, checkpoint, end, virtual_size=size, allocated_bytes=1)
    second = make_disk(
        Bitmap("disk-b", "livebackup:tracked"), name="vd-b", node="disk-b", virtual_size=2147483648
    )
    return make_vm(
        first,
        second,
        qemu_version="7.2.22",
        capabilities=frozenset({"snapshot-access", "add-fd", "getfd"}),
    )


@pytest.fixture
def member(vm: Any) -> Member:
    return Member(None, vm, Pause(None, None), agent="responding")


def test_a_vm_report(example: Any, vm: Any) -> None:
    ours = shape(_report.joined(vm, "responding", vm, None))
    theirs = shape(example("step-joined.request")["facts"]["vms"][0])
    # the only optional field
    ours["disks"][0].pop("allocated_bytes")
    assert ours == theirs


def test_a_reconcile_request(example: Any, vm: Any) -> None:
    assert shape(_report.reconcile_request("hv1", [vm])) == shape(example("reconcile.request"))


def test_only_disks_that_are_or_were_tracked_are_reconciled(
    make_vm: Any, make_disk: Any, points: Any
) -> None:
    disks = [
        make_disk(),
        make_disk(f"livebackup:{points[0]}", name="vd-b"),
        make_disk("livebackup:tracked", name="vd-c"),
    ]
    (vm,) = _report.reconcile_request("hv1", [make_vm(*disks)])["vms"]
    assert [disk["disk"] for disk in vm["disks"]] == ["vd-b", "vd-c"]


def test_opening_a_session(example: Any) -> None:
    params = {
        "group": "g",
        "policy": "all",
        "consistency": "crash",
        "hosts": ["h"],
        "required_vms": [],
        "min_vms": 0,
        "forget_vms": [],
        "join_timeout": 60,
        "stop_budget": 5.0,
        "speed_limit": 0,
    }
    assert shape(_session.opening(params)).keys() == shape(example("session-open.request")).keys()


def test_a_plan_becomes_plans_of_disks(example: Any, member: Member, points: Any) -> None:
    plan = example("answer-prepare.response")["plan"]
    first, second = _plan.disk_plans(member.vm, plan)
    assert (first.parent, first.incremental, first.point) == (points[0], True, plan["point"])
    assert (second.parent, second.incremental, second.index) == (None, False, 1)
    transport = _credentials.Transport.from_api("backup.example.com", plan["transport"])
    assert (transport.host, transport.port) == ("backup.example.com", 10810)


def test_cut_facts(example: Any, member: Member, points: Any) -> None:
    member.plans = _plan.disk_plans(member.vm, example("answer-prepare.response")["plan"])
    member.dirty_bytes = {"vd-a": 1, "vd-b": 2}
    ours = _cut.facts(member)
    assert shape(ours) == shape(example("step-cut.request")["facts"]["vms"][0])


def test_progress_facts(example: Any) -> None:
    ours = _transfer.Progress("db", "vd-a", 1, 2, 3, ended=False).facts()
    assert shape(ours) == shape(example("step-transferring.request")["facts"]["disks"][0])


@pytest.mark.parametrize("order", ["prepare", "stop", "cut", "transfer", "finish", "abort", "leave", "wait"])
def test_every_order_is_known(example: Any, order: str) -> None:
    assert example(f"answer-{order}.response")["order"] == order
    assert order in {*_participant.FLOW, "leave", "wait"}


def test_the_digests_of_a_disk() -> None:
    (first, count), end, digests = _frames(EXAMPLES / "point-digests.frames", clusters=5)
    assert (first, count, end) == (1, 2, True)
    assert digests == bytes(32) + 2 * blake3(b"\1" * 65536).digest()


def _frames(path: Path, clusters: int) -> tuple[tuple[int, int], bool, bytes]:
    class Receiver:
        @contextlib.contextmanager
        def download(self, dummy: str) -> Iterator[IO[bytes]]:
            yield body

    file = io.BytesIO()
    with path.open("rb") as body:
        (run,) = _heads.fetch(Receiver(), "/", file, clusters, threading.Event())
        return run, not body.read(), file.getvalue()


async def test_an_unknown_order_is_an_error() -> None:
    with pytest.raises(ReceiverError, match="the order dance, which this collection does not know"):
        await _participant.carry_out(None, Answer("dance"), None)


@pytest.mark.parametrize(
    "code", ["group-busy", "vm-busy", "no-tracked-disk", "point-unknown", "token-invalid"]
)
def test_errors_keep_the_receivers_code_and_words(example: Any, code: str) -> None:
    body = example(f"error-{code}.response")
    with pytest.raises(ReceiverRefused) as caught:
        _receiver.decode(409, json.dumps(body).encode(), "https://backup.example.com")
    assert caught.value.message == body["error"]["message"]
    assert caught.value.details() == {"code": code, "status": 409}


@pytest.mark.parametrize("data", [b"<html>", b"{}", b'{"error": "no"}'])
def test_what_is_no_receiver_is_said(data: bytes) -> None:
    with pytest.raises(ReceiverError, match="is not a Livebackup receiver"):
        _receiver.decode(502, data, "https://backup.example.com")


def test_nothing_left_to_report_under_each_is_an_error() -> None:
    members = Members("each")
    assert members.everyone == []
