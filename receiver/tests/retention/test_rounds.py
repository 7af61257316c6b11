# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention as the receiver applies it by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest
from held_points import hold, make_directories
from hypervisor import back_up_together
from sample_records import session
from serving import Served, serving
from tls_files import TlsFiles
from two_hosts import make_disks, make_hosts
from waiting import until

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import list_points
from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.events import Feed, SessionChanged
from livebackup_receiver.model import Point, Role, Session, SessionState
from livebackup_receiver.retention import rounds
from livebackup_receiver.retention.local import LocalRetention
from livebackup_receiver.retention.policy import RetentionPolicy
from livebackup_receiver.retention.rounds import Rounds, open_rounds
from livebackup_receiver.store.paths import Store

LAST_TWO = RetentionPolicy(keep_last=2)
MOMENT_S = 0.3


def ids(catalog: Catalog, group: str | None = None) -> list[str]:
    with catalog.read() as db:
        return [each.id for each in list_points(db, group=group)]


async def has(catalog: Catalog, expected: list[Point]) -> None:
    """Wait until exactly these points are left."""

    async def look() -> bool:
        return ids(catalog) == [each.id for each in expected]

    await until(look)


class Site:
    """A catalog with rounds beside it; ``open`` are the sessions that have not ended."""

    def __init__(self, config: Config, catalog: Catalog) -> None:
        self.catalog = catalog
        self.retention = LocalRetention(catalog, Store(config.store))
        self.feed = Feed()
        self.open: list[Session] = []
        self.drops = 0

    def rounds(self) -> AbstractAsyncContextManager[Rounds]:
        return open_rounds(self.retention, self.feed, lambda: self.open, self._count)

    def commit(self, group: str = "nightly") -> None:
        record = session(SessionState.COMMITTED, group=group)
        self.feed.publish(SessionChanged.of(record, entered=True))

    async def told(self) -> bool:
        """Whether somebody was told of a drop."""
        return self.drops == 1

    def _count(self) -> None:
        self.drops += 1


@pytest.fixture
def site(config: Config, catalog: Catalog) -> Site:
    return Site(config, catalog)


async def test_a_backup_lets_go_what_no_rule_keeps(
    server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = hold(server.receiver.catalog, 4, vms=("old",))
    caplog.set_level("INFO")
    async with server.client(Role.MANAGE) as manager, server.client() as client:
        await manager.put("/api/v1/policies/group:nightly", json={"keep_last": 3})
        new = await back_up_together(client, make_hosts(client, make_disks(tmp_path)), forget_vms=["old"])

        async def look() -> bool:
            return ids(server.receiver.catalog) == [new, made[0].id, made[1].id]

        await until(look)
    lines = [line for line in caplog.messages if "dropped, no rule keeps it" in line]
    assert len(lines) == 2
    assert made[2].id in lines[0]
    assert "of group nightly" in lines[0]


async def test_at_its_start_the_receiver_catches_up(config: Config, tls: TlsFiles) -> None:
    async with open_receiver(config) as receiver, serving(receiver, tls):
        made = hold(receiver.catalog, 4)
        make_directories(config.store, made)
        receiver.retention.declare("group:nightly", LAST_TWO)
        assert len(ids(receiver.catalog)) == 4
    async with open_receiver(config) as receiver, serving(receiver, tls):
        await has(receiver.catalog, made[:2])


async def test_it_is_left_to_the_operator_if_it_is_said_so(config: Config) -> None:
    manual = config.model_copy(update={"retention_automatic": False})
    async with open_receiver(manual) as receiver:
        make_directories(config.store, hold(receiver.catalog, 4))
        receiver.retention.declare("group:nightly", LAST_TWO)
    async with open_receiver(manual) as receiver:
        await asyncio.sleep(MOMENT_S)
        assert len(ids(receiver.catalog)) == 4


async def test_time_passes_without_backups_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "INTERVAL", timedelta(seconds=0.2))
    made = hold(site.catalog, 4)
    async with site.rounds():
        await asyncio.sleep(MOMENT_S)
        assert len(ids(site.catalog)) == 4
        site.retention.declare("vm:db", LAST_TWO)
        await has(site.catalog, made[:2])
        await until(site.told)


async def test_only_the_group_of_the_commit_is_judged(site: Site) -> None:
    nightly = hold(site.catalog, 4)
    weekly = hold(site.catalog, 4, last=nightly[0].cut_at - timedelta(hours=1), group="weekly")
    async with site.rounds():
        await asyncio.sleep(MOMENT_S)
        for group in ("nightly", "weekly"):
            site.retention.declare(f"group:{group}", LAST_TWO)
        site.commit("weekly")

        async def look() -> bool:
            return len(ids(site.catalog, "weekly")) == 2

        await until(look)
        assert ids(site.catalog, "weekly") == [each.id for each in weekly[:2]]
        assert len(ids(site.catalog, "nightly")) == 4


@pytest.mark.parametrize(
    "busy",
    [
        lambda: session(SessionState.SEALING),
        lambda: session(SessionState.STOPPING, group="other"),
        lambda: session(SessionState.CUTTING, group="other"),
    ],
    ids=["sealing", "stopping", "cutting"],
)
async def test_it_waits_for_a_commit_of_the_group_and_for_vms_that_stand_still(
    site: Site, monkeypatch: pytest.MonkeyPatch, busy: Callable[[], Session]
) -> None:
    monkeypatch.setattr(rounds, "POSTPONE_S", 0.05)
    made = hold(site.catalog, 4)
    site.retention.declare("group:nightly", LAST_TWO)
    site.open = [busy()]
    async with site.rounds():
        await asyncio.sleep(MOMENT_S)
        assert len(ids(site.catalog)) == 4
        site.open = [session(SessionState.SEALING, group="other"), session(SessionState.TRANSFERRING)]
        await has(site.catalog, made[:2])


async def test_what_fails_is_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounds, "INTERVAL", timedelta(seconds=0.2))
    made = hold(site.catalog, 4)
    site.retention.declare("group:nightly", LAST_TWO)
    # where marks are kept there is a file in the way
    site.retention.store.points.touch()
    async with site.rounds():
        await asyncio.sleep(MOMENT_S)
        assert len(ids(site.catalog)) == 4
        site.retention.store.points.unlink()
        await has(site.catalog, made[:2])
    assert "group nightly: retention failed" in caplog.text
