# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from hypervisor import back_up_together, open_session
from serving import Served
from two_hosts import make_disks, make_hosts


async def test_a_host_that_is_none_of_the_session_s_is_refused(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv2 = make_hosts(client, make_disks(tmp_path))[1]
        session = await open_session(client, ["hv1"])
        answer = await hv2.join(session)
        await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "seen"})
        late = await hv2.join(session)
    assert answer["error"]["code"] == "host-unknown"
    assert late["error"]["code"] == "host-unknown"


async def test_steps_need_joining_first(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1"])
        answer = await hv1.step(session, "prepared", {}, 0)
    assert answer["error"]["message"].startswith(
        "participant hv1 sent the step prepared while it is not joined;"
    )


async def test_an_unknown_session_is_named(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        answer = await hv1.join("01JD7FZK3M4N5P6Q7R8S9T0V1W")
    assert answer["error"]["code"] == "session-unknown"


async def test_a_step_that_does_not_exist_is_refused(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1"])
        assert (await hv1.step(session, "jumped", {}))["error"]["code"] == "body-invalid"
        assert (await hv1.step(session, "joined", {}, 9999))["error"]["code"] == "body-invalid"


async def test_a_repeated_join_gets_the_same_plan(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1"])
        first = await hv1.join(session)
        assert await hv1.join(session) == first
        assert first["plan"]["point"] == session


async def test_reconcile_follows_the_catalog(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hosts = make_hosts(client, make_disks(tmp_path))
        old, new = [await back_up_together(client, hosts) for dummy in range(2)]
        running = await open_session(client, ["hv1"])
        lost = "01JD7FZK3M4N5P6Q7R8S9T0V1W"
        bitmaps = [{"point": point, "healthy": True} for point in (old, new, running, lost)]
        disks = [{"disk": "vd-a", "virtual_size": 1, "bitmaps": bitmaps}]
        body = {"host": "hv1", "vms": [{"vm": "db", "disks": disks}, {"vm": "unknown", "disks": disks}]}
        answer = (await client.post("/api/v1/reconcile", json=body)).json()
    assert answer == {
        "vms": [
            {"vm": "db", "disks": [{"disk": "vd-a", "keep": new, "remove": sorted([old, lost])}]},
            {"vm": "unknown", "disks": [{"disk": "vd-a", "keep": None, "remove": sorted([old, new, lost])}]},
        ]
    }


async def test_bitmaps_of_an_aborted_session_go(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session = await open_session(client, ["hv1"])
        disk = {"disk": "vd-a", "virtual_size": 1, "bitmaps": [{"point": session, "healthy": True}]}
        body = {"host": "hv1", "vms": [{"vm": "db", "disks": [disk]}]}
        during = (await client.post("/api/v1/reconcile", json=body)).json()
        await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "seen"})
        after = (await client.post("/api/v1/reconcile", json=body)).json()
    assert during["vms"][0]["disks"][0] == {"disk": "vd-a", "keep": None, "remove": []}
    assert after["vms"][0]["disks"][0] == {"disk": "vd-a", "keep": None, "remove": [session]}
