# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that restores fetches what its disk held at a point."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from damaging import flip
from sample_store import KIB, SampleStore, Write
from serving import Served

from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.errors import LayerDamaged, PointUnknown
from livebackup_receiver.model import Point, Role
from livebackup_receiver.point_digests import DigestChain, find_chain, open_tables
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.store.digests import Table, frames

CLUSTER = 64 * KIB
DIGEST = 32
DISK = ("db", "vd-a")
EXAMPLES = Path(__file__).parents[3] / "tests/contract/examples"


@pytest.fixture
def store(server: Served) -> SampleStore:
    return SampleStore(server.receiver.store.root, server.receiver.catalog)


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """A chain of two layers."""
    first = store.add({DISK: [Write(0, 4 * CLUSTER, 1)]})
    return [first, store.add({DISK: [Write(CLUSTER, CLUSTER, 2), Write(2 * CLUSTER, CLUSTER, 0)]})]


def path_of(point: str, vm: str = "db", disk: str = "vd-a") -> str:
    return f"/api/v1/points/{point}/vms/{vm}/disks/{disk}/digests"


def clusters_of(body: bytes) -> tuple[dict[int, bytes], int]:
    found: dict[int, bytes] = {}
    while True:
        first, count = struct.unpack_from("<QI", body)
        rows, body = body[12 : 12 + count * DIGEST], body[12 + count * DIGEST :]
        if not count:
            return found, first
        found |= {first + each: rows[each * DIGEST :][:DIGEST] for each in range(count)}


async def test_every_point_has_the_digests_of_its_content(server: Served, points: list[Point]) -> None:
    one, two = (blake3(bytes([value]) * CLUSTER).digest() for value in (1, 2))
    async with server.client(Role.RESTORE) as client:
        bodies = [await client.get(path_of(point.id)) for point in points]
    assert [answer.status_code for answer in bodies] == [200, 200]
    older, newer = (clusters_of(answer.content) for answer in bodies)
    assert older == (dict.fromkeys(range(4), one), 64)
    assert newer == ({0: one, 1: two, 3: one}, 64)


async def test_what_is_not_there_is_said_and_nobody_else_may_ask(server: Served, points: list[Point]) -> None:
    async with server.client(Role.RESTORE) as client:
        for path, code in (
            (path_of("01JD7FZK3M4N5P6Q7R8S9T0V1W"), "point-unknown"),
            (path_of(points[0].id, vm="web"), "vm-unknown"),
            (path_of(points[0].id, disk="vd-x"), "disk-unknown"),
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)
    async with server.client(Role.BACKUP) as client:
        assert (await client.get(path_of(points[0].id))).status_code == 403


async def test_a_damaged_table_or_layer_is_said(server: Served, points: list[Point]) -> None:
    first = points[0].id
    layer = server.receiver.store.disk(*DISK).layer(first)
    table = server.receiver.store.disk(*DISK).digests(first)
    whole = table.read_bytes()
    async with server.client(Role.RESTORE) as client:
        table.write_bytes(whole[:-1])
        answer = await client.get(path_of(points[1].id))
        assert answer.json()["error"]["code"] == "digests-invalid"
        table.write_bytes(whole)
        flip(layer, 0)
        scrub_layer(
            Scrubbed(*DISK, first, server.receiver.store, server.receiver.catalog),
            at_once,
            now=datetime.now(UTC),
        )
        answer = await client.get(path_of(points[1].id))
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "point-damaged")


async def test_who_received_something_wrong_is_told_what_is_whole(
    server: Served, points: list[Point]
) -> None:
    first, second = points
    flip(server.receiver.store.disk(*DISK).layer(second.id), CLUSTER)
    path = path_of(second.id).replace("/digests", "/damage")
    async with server.client(Role.RESTORE) as client:
        fine = await client.get(path, params={"offset": 2 * CLUSTER, "length": 2 * CLUSTER})
        assert (fine.status_code, fine.content) == (204, b"")
        answer = await client.get(path, params={"offset": 0, "length": 4 * CLUSTER})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "point-damaged")
        said = answer.json()["error"]["message"]
        assert f"disk vd-a of VM db is damaged at point {second.id}, bytes 65536 to 131072" in said
        assert f"take point {first.id}, where it is not" in said
        older = await client.get(path.replace(second.id, first.id), params={"offset": 0, "length": CLUSTER})
        assert older.status_code == 204
    async with server.client(Role.READ) as client:
        assert (await client.get(path, params={"offset": 0, "length": 1})).status_code == 403


def test_a_chain_that_was_changed_meanwhile_is_looked_up_again(server: Served, points: list[Point]) -> None:
    chain = find_chain(server.receiver, points[1].id, *DISK)
    with pytest.raises(LayerDamaged):
        open_tables(DigestChain(chain.layers[:1], chain.tables[:1]))

    def gone() -> None:
        raise PointUnknown(points[1].id)

    with pytest.raises(PointUnknown):
        open_tables(DigestChain(chain.layers, chain.tables, gone))


def test_the_example_of_the_contract_is_what_we_send() -> None:
    digest = np.frombuffer(blake3(b"\1" * CLUSTER).digest(), np.uint8)
    table = Table(5 * CLUSTER - 512, np.array([1, 2], np.uint64), np.stack([digest, digest]))
    assert b"".join(frames([table])) == (EXAMPLES / "point-digests.frames").read_bytes()
