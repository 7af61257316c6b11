# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host fetches what its disk held at the head."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from blake3 import blake3
from damaging import flip
from hypervisor import MIB, Hypervisor, back_up_together, open_session
from serving import Served
from two_hosts import make_disks, make_hosts

from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.model import Role
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer

CLUSTER = 65536
DIGEST = 32


class Able(Hypervisor):
    """A host that lost its bitmaps and can compare."""

    def report(self, vm: str) -> dict[str, Any]:
        return super().report(vm) | {"can_resync": True}


async def lose_bitmaps(client: httpx.AsyncClient, folder: Path) -> list[Hypervisor]:
    """Both hosts after a first backup, without a healthy bitmap."""
    hosts = [Able(client, each.host, each.vms) for each in make_hosts(client, make_disks(folder))]
    await back_up_together(client, list(hosts))
    for host in hosts:
        for disks in host.vms.values():
            for disk in disks.values():
                disk.healthy = False
    return list(hosts)


def path_of(session: str, vm: str = "db", disk: str = "vd-a", host: str = "hv1") -> str:
    return f"/api/v1/sessions/{session}/participants/{host}/digests/{vm}/{disk}"


def clusters_of(body: bytes) -> tuple[dict[int, bytes], int]:
    found: dict[int, bytes] = {}
    while True:
        first, count = struct.unpack_from("<QI", body)
        rows, body = body[12 : 12 + count * DIGEST], body[12 + count * DIGEST :]
        if not count:
            return found, first
        found |= {first + each: rows[each * DIGEST :][:DIGEST] for each in range(count)}


async def test_the_digests_are_those_of_the_disk(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hosts = await lose_bitmaps(client, tmp_path)
        session = await open_session(client, ["hv1"])
        plan = (await hosts[0].join(session))["plan"]
        assert {disk["level"] for vm in plan["vms"] for disk in vm["disks"]} == {"resync"}
        answer = await client.get(path_of(session, disk="vd-b"))
    assert answer.status_code == 200
    found, clusters = clusters_of(answer.content)
    content = (tmp_path / "db-vd-b.raw").read_bytes()
    pieces = [content[at : at + CLUSTER].ljust(CLUSTER, b"\0") for at in range(0, len(content), CLUSTER)]
    assert clusters == len(pieces)
    assert found == {each: blake3(piece).digest() for each, piece in enumerate(pieces) if any(piece)}
    assert set(found) >= set(range(MIB // CLUSTER, 2 * MIB // CLUSTER))


async def test_nobody_gets_digests_that_its_plan_does_not_need(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hosts = await lose_bitmaps(client, tmp_path)
        session = await open_session(client, ["hv1"])
        await hosts[0].join(session)
        for path in (
            path_of(session, host="hv2"),
            path_of(session, vm="web"),
            path_of(session, disk="vd-x"),
            path_of("01JD7FZK3M4N5P6Q7R8S9T0V1W"),
        ):
            assert (await client.get(path)).status_code == 404
        async with server.client(Role.READ) as reader:
            assert (await reader.get(path_of(session))).status_code == 403
        await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "enough"})
        late = await client.get(path_of(session))
    assert (late.status_code, late.json()["error"]["code"]) == (404, "no-resync")


async def test_a_table_that_was_damaged_after_the_plan_is_said(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hosts = await lose_bitmaps(client, tmp_path)
        session = await open_session(client, ["hv1"])
        await hosts[0].join(session)
        for table in server.receiver.store.vms.glob("db/vd-a/*.digests"):
            table.write_bytes(table.read_bytes()[:-1])
        answer = await client.get(path_of(session))
    assert answer.json()["error"]["code"] == "digests-invalid"


async def test_what_the_comparison_has_shown_is_kept_with_the_point(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hosts = await lose_bitmaps(client, tmp_path)
        session = await open_session(client, ["hv2"])
        plan = (await hosts[1].join(session))["plan"]
        parent = plan["vms"][0]["disks"][0]["parent"]
        await hosts[1].cut(session)
        sent = {"vm": "web", "disk": "vd-a", "sent_bytes": 70_000, "dirty_bytes": CLUSTER}
        answer = await hosts[1].step(session, "transferred", {"disks": [sent]})
        assert answer["order"] == "finish"
        async with server.client(Role.READ) as reader:
            point = (await reader.get(f"/api/v1/points/{session}")).json()
    (disk,) = point["vms"][0]["disks"]
    assert (disk["level"], disk["parent"], disk["dirty_bytes"]) == ("resync", parent, CLUSTER)


async def test_damaged_clusters_have_a_digest_that_no_content_has(server: Served, tmp_path: Path) -> None:
    """A scrub was here: although the host's bitmap is healthy, it compares, and finds these changed."""
    async with server.client() as client:
        hosts = await lose_bitmaps(client, tmp_path)
        disk = hosts[0].vms["db"]["vd-b"]
        disk.healthy = True
        parent = disk.checkpoints[0]
        layer = server.receiver.store.disk("db", "vd-b").layer(parent)
        flip(layer, MIB + 3 * CLUSTER)
        scrubbed = Scrubbed("db", "vd-b", parent, server.receiver.store, server.receiver.catalog)
        check = scrub_layer(scrubbed, at_once, now=datetime.now(UTC))
        assert check is not None
        assert check.ranges == [(MIB + 3 * CLUSTER, CLUSTER)]
        session = await open_session(client, ["hv1"])
        plan = (await hosts[0].join(session))["plan"]
        (planned,) = (each for each in plan["vms"][0]["disks"] if each["disk"] == "vd-b")
        assert planned["level"] == "resync"
        assert planned["level_reason"].startswith(
            f"the layer of point {parent} is damaged; only what differs"
        )
        found, dummy = clusters_of((await client.get(path_of(session, disk="vd-b"))).content)
    wrong = {each for each, digest in found.items() if digest == b"\xff" * DIGEST}
    assert wrong == {MIB // CLUSTER + 3}
