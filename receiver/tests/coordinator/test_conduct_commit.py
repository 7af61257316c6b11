# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole sessions over HTTPS, with data that really travels, which end in a point."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypervisor import MIB, Hypervisor, back_up_together, compare, open_session
from serving import Served
from two_hosts import KEYS, daemons, ended, files_of, get_session, make_disks, make_hosts

from livebackup_receiver.catalog.points import load_point
from livebackup_receiver.events import SessionChanged
from livebackup_receiver.model import (
    Consistency,
    Level,
    ParticipantState,
    Point,
    Session,
    SessionState,
    TransferState,
)
from livebackup_receiver.store.digests import read_table, root_of
from livebackup_receiver.store.integrity import check_layer
from livebackup_receiver.store.manifest import point_of, read_manifest


def point_in_catalog(server: Served, point: str) -> Point:
    with server.receiver.catalog.read() as db:
        return load_point(db, point)


async def test_full_then_incremental_hold_what_the_disks_held(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    async with server.client() as client:
        hosts = make_hosts(client, disks)
        first = await back_up_together(client, hosts)
        disks["db", "vd-a"].write(3 * MIB + 512, 200_000, 0x99)
        disks["web", "vd-a"].write(0, 70_000, 0x00)
        second = await back_up_together(client, hosts)
    for key in KEYS:
        directory = server.receiver.store.disk(*key)
        await compare(disks[key], directory.layer(second))
        for point in (first, second):
            assert await check_layer(directory.layer(point)) == 0
    levels = {disk.level for vm in point_in_catalog(server, second).vms for disk in vm.disks}
    assert levels == {Level.INCREMENTAL}
    assert await daemons() == []


@pytest.mark.parametrize("boundary", ["commit-written", "committed", "cleared"])
async def test_what_fails_after_the_commit_takes_nothing_back(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boundary: str
) -> None:
    wish = tmp_path / "fault"
    wish.write_text(f"session.{boundary}#1 error")
    monkeypatch.setenv("LIVEBACKUP_FAULTPOINT", str(wish))
    disks = make_disks(tmp_path)
    async with server.client() as client:
        point = await back_up_together(client, make_hosts(client, disks))
        assert (await ended(client, server, point)).state is SessionState.COMMITTED
    assert not wish.exists()
    assert point_in_catalog(server, point).complete
    for key in KEYS:
        await compare(disks[key], server.receiver.store.disk(*key).layer(point))


async def test_the_older_point_keeps_what_it_held(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    before = tmp_path / "before.raw"
    before.write_bytes(disks["db", "vd-a"].path.read_bytes())
    async with server.client() as client:
        hosts = make_hosts(client, disks)
        first = await back_up_together(client, hosts)
        disks["db", "vd-a"].write(0, 8 * MIB, 0x99)
        await back_up_together(client, hosts)
    disks["db", "vd-a"].path.write_bytes(before.read_bytes())
    await compare(disks["db", "vd-a"], server.receiver.store.disk("db", "vd-a").layer(first))


async def test_an_incremental_stores_only_what_was_written(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    async with server.client() as client:
        hosts = make_hosts(client, disks)
        await back_up_together(client, hosts)
        disks["db", "vd-a"].write(5 * MIB, 65536, 0x77)
        second = await back_up_together(client, hosts)
    point = point_in_catalog(server, second)
    stored = {(vm.vm, disk.disk): disk.stored_bytes for vm in point.vms for disk in vm.disks}
    assert stored["db", "vd-a"] <= 8 * 65536
    assert stored["db", "vd-b"] < stored["db", "vd-a"]


async def test_zeros_take_no_space(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    disks["web", "vd-a"].write(0, disks["web", "vd-a"].size, 0x00)
    async with server.client() as client:
        point = await back_up_together(client, make_hosts(client, disks))
    web = point_in_catalog(server, point).vms[1].disks[0]
    assert web.stored_bytes < 10 * 65536


async def test_point_manifest_and_files_agree(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session = await back_up_together(client, make_hosts(client, make_disks(tmp_path)))
    store, point = server.receiver.store, point_in_catalog(server, session)
    manifests = [read_manifest(store.disk(*key).manifest(session)) for key in KEYS]
    assert point_of(manifests, store, committed_at=point.committed_at) == point
    assert (point.complete, point.consistency) == (True, Consistency.CRASH)
    for vm in point.vms:
        assert vm.pause_ms == 20.5
        for disk in vm.disks:
            table = read_table((store.root / disk.layer).with_suffix(".digests"))
            assert disk.root == root_of([table])
    suffixes = [Path(name).suffix for name in files_of(server, session)]
    assert suffixes == [".digests", ".json", ".qcow2"] * len(KEYS)


async def test_the_record_tells_the_whole_story(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session = await back_up_together(client, make_hosts(client, make_disks(tmp_path)))
        record = await ended(client, server, session)
    assert record.state is SessionState.COMMITTED
    assert {each.state for each in record.participants} == {ParticipantState.FINISHED}
    assert {each.state for each in record.disks} == {TransferState.SEALED}
    assert [each.to for each in record.transitions if each.subject == "session"] == [
        state for state in SessionState if state is not SessionState.ABORTED
    ]
    assert "full: first backup of this disk" in {each.reason for each in record.transitions}
    assert [each.at for each in record.transitions] == sorted(each.at for each in record.transitions)


async def test_nobody_is_told_before_everyone_is_there(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1, hv2 = make_hosts(client, make_disks(tmp_path))
        session = await open_session(client, ["hv1", "hv2"])
        assert (await hv1.join(session, wait_s=0.2))["order"] == "wait"
        first, second = await asyncio.gather(hv1.join(session), hv2.join(session))
        assert (first["order"], second["order"]) == ("prepare", "prepare")
        assert (await hv1.step(session, "prepared", {}, 0.2))["order"] == "wait"
        await hv2.step(session, "prepared", {}, 0)
        assert (await hv1.step(session, "prepared", {}))["order"] == "stop"
        stopped = {"vms": [{"vm": "db", "consistency": "crash"}]}
        assert (await hv1.step(session, "stopped", stopped, 0.2))["order"] == "wait"
        await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "seen enough"})


async def test_a_lost_bitmap_means_full_and_says_so(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    async with server.client() as client:
        hosts = make_hosts(client, disks)
        first = await back_up_together(client, hosts)
        disks["db", "vd-a"].healthy = False
        disks["db", "vd-b"].checkpoints = []
        record = await get_session(client, await back_up_together(client, hosts))
    assert [(each.vm, each.disk, each.level, each.level_reason) for each in record.disks] == [
        ("db", "vd-a", "full", f"bitmap of point {first} is inconsistent after an unclean stop of the VM"),
        ("db", "vd-b", "full", "no bitmap of a committed point on the disk"),
        ("web", "vd-a", "incremental", f"changes since point {first}"),
    ]


async def test_policy_each_leaves_out_who_fails(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    async with server.client() as client:
        hv1, hv2 = make_hosts(client, disks)
        session = await open_session(client, ["hv1", "hv2"], policy="each")

        async def fail_in_transfer() -> dict[str, object]:
            await hv2.join(session)
            await hv2.cut(session)
            return await hv2.step(session, "failed", {"reason": "VM web: the snapshot is broken"}, 0)

        answer, failed = await asyncio.gather(hv1.back_up(session), fail_in_transfer())
        record = await ended(client, server, session)
    assert (answer["order"], failed["order"]) == ("finish", "abort")
    assert record.state is SessionState.COMMITTED
    point = point_in_catalog(server, session)
    assert not point.complete
    assert [vm.vm for vm in point.vms] == ["db"]
    assert not [name for name in files_of(server, session) if "/web/" in name]
    await compare(disks["db", "vd-b"], server.receiver.store.disk("db", "vd-b").layer(session))


@pytest.mark.parametrize("policy", ["all", "each"])
async def test_an_untracked_disk_is_no_part_of_a_point(server: Served, tmp_path: Path, policy: str) -> None:
    disks = make_disks(tmp_path)
    disks["db", "vd-b"].tracked = False
    async with server.client() as client:
        hv1 = make_hosts(client, disks)[0]
        session = await open_session(client, ["hv1"], policy=policy)
        plan = (await hv1.join(session))["plan"]
        assert [disk["disk"] for disk in plan["vms"][0]["disks"]] == ["vd-a"]
        await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "seen enough"})


async def test_the_feed_tells_every_state(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1 = Hypervisor(client, "hv1", {"web": {"vd-a": make_disks(tmp_path)["web", "vd-a"]}})
        with server.receiver.feed.subscribe() as subscription:
            session = await back_up_together(client, [hv1])
            states: list[SessionState] = []
            async for event in subscription:
                assert isinstance(event, SessionChanged)
                assert event.session == session
                if event.state not in states:
                    states.append(event.state)
                if event.state.ended:
                    break
    assert states == [state for state in SessionState if state is not SessionState.ABORTED]


async def test_the_catalog_keeps_what_the_api_said(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session = await back_up_together(client, make_hosts(client, make_disks(tmp_path)))
        record = await ended(client, server, session)
        listed = (await client.get("/api/v1/sessions?state=ended")).json()["sessions"]
    assert [Session.model_validate(each) for each in listed] == [record]
