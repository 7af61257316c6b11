# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power cuts while points are committed, dropped, merged and punched, on a disk that writes in any order.

Everything the store's process writes goes through a logged device. A cut is played back, the file system is
mounted, the receiver's recovery runs, and every point that anybody was told of must be there and right.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from logged_device import MAKERS, LoggedDevice, logged_device, mounted
from random_chains import is_clean, same_content
from sample_records import new_id
from sqlalchemy.exc import SQLAlchemyError

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import add_point, list_points
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.coordinator.opening import Opening, session_of
from livebackup_receiver.coordinator.receipt import Receipt
from livebackup_receiver.coordinator.recovery import recover
from livebackup_receiver.coordinator.seal import seal
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.errors import ReceiverError
from livebackup_receiver.model import Level, Session, SessionState, Transfer, TransferState
from livebackup_receiver.storage_daemon.intake import Intake
from livebackup_receiver.store import durable
from livebackup_receiver.store.manifest import point_of
from livebackup_receiver.store.paths import Store

CUTS = int(os.environ.get("LIVEBACKUP_POWERCUTS", "20"))
DISK_BYTES = 4 << 20
KIB = 1024
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

log = logging.getLogger(__name__)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")


class Closed:
    """An intake whose storage daemon has closed its layers already, without having synced them."""

    async def flush(self, keys: object, *, timeout_s: float) -> None:
        return

    async def close(self) -> None:
        return


@dataclass
class History:
    """What was promised, by how many entries the log had then: a point was there, or was gone."""

    committed: dict[str, int] = field(default_factory=dict)
    dropping: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    def must_be(self, at: int) -> set[str]:
        """Points of which somebody was told that they are there, and that nobody had begun to drop."""
        there = {point for point, since in self.committed.items() if since <= at}
        return there - {point for point, since in self.dropping.items() if since <= at}

    def must_not_be(self, at: int) -> set[str]:
        return {point for point, since in self.dropped.items() if since <= at}


@dataclass
class Keeper:
    """A receiver's store on the device; ``copies`` are outside of it."""

    device: LoggedDevice
    copies: Path
    history: History = field(default_factory=History)
    heads: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.device.mount / "store")

    async def commit(self, catalog: Catalog, number: int) -> None:
        """A session as the coordinator ends it: sealed layers, and then the commit record."""
        at = BEGIN + timedelta(hours=number)
        session = session_of(Opening(group="nightly", hosts=["hv1"]), new_id(at), now=at)
        parent = self.heads[-1] if self.heads else None
        transfer = Transfer(
            vm="db",
            disk="vd-a",
            host="hv1",
            level=Level.INCREMENTAL if parent else Level.FULL,
            level_reason="",
            parent=parent,
            virtual_size=DISK_BYTES,
            state=TransferState.TRANSFERRED,
        )
        with catalog.write() as db:
            save_session(db, session)
        self._write(session.id, parent, number)
        receipt = Receipt(session.id, "nightly", (transfer,), at, complete=True)
        closed = cast(Intake, Closed())
        manifests = await seal(receipt, closed, self.store, flush_timeout_s=10, now=at)
        with catalog.write() as db:
            save_session(db, _committed(session))
            add_point(db, point_of(manifests, self.store, committed_at=at))
        self.history.committed[session.id] = len(self.device.entries())
        self.heads.append(session.id)

    def drop(self, catalog: Catalog, number: int) -> None:
        point = self.heads[number]
        self.history.dropping[point] = len(self.device.entries())
        drop_points(catalog, self.store, [point], now=BEGIN)
        self.history.dropped[point] = len(self.device.entries())

    def consolidate(self, catalog: Catalog, abilities: Abilities, max_depth: int) -> None:
        work = Consolidation(self.store, catalog, abilities, max_depth=max_depth)
        for disk in work.waiting():
            work.consolidate(disk, at_once)

    def _write(self, point: str, parent: str | None, number: int) -> None:
        directory = self.store.disk("db", "vd-a")
        durable.make_directory(directory.path)
        layer = directory.partial(point)
        backing = ["-b", directory.layer(parent).name, "-F", "qcow2"] if parent else []
        qemu("qemu-img", "create", "-q", "-f", "qcow2", *backing, layer, DISK_BYTES)
        commands = [
            f"write -P {number + 1} {number * 192 * KIB % DISK_BYTES} 256k",
            f"write -P {100 + number} 3M 64k",
            f"write -z {(number * 320 + 64) * KIB % DISK_BYTES} 64k",
        ]
        qemu("qemu-io", "-f", "qcow2", *(part for each in commands for part in ("-c", each)), layer)
        qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", layer, self.copies / f"{point}.raw")


def qemu(*argv: object) -> None:
    subprocess.run([str(each) for each in argv], check=True, capture_output=True, timeout=30)


def _committed(session: Session) -> Session:
    return session.model_copy(update={"state": SessionState.COMMITTED, "ended_at": session.opened_at})


def open_on(mount: Path) -> str:
    return f"sqlite:///{mount}/store/catalog.sqlite3"


async def live(keeper: Keeper) -> None:
    """Commits, drops, punches and merges of both kinds."""
    durable.make_directory(keeper.store.vms)
    with open_catalog(open_on(keeper.device.mount)) as catalog:
        for number in range(6):
            await keeper.commit(catalog, number)
        keeper.drop(catalog, 1)
        keeper.consolidate(catalog, Abilities(shares=False, punches=True), 50)
        keeper.drop(catalog, 3)
        keeper.consolidate(catalog, Abilities(shares=False, punches=True), 3)
        await keeper.commit(catalog, 6)
        keeper.drop(catalog, 0)
        # merges into new files; where extents cannot be shared, data are copied
        keeper.consolidate(catalog, Abilities(shares=True, punches=True), 50)
        await keeper.commit(catalog, 7)
        for number in (2, 4):
            keeper.drop(catalog, number)
        keeper.consolidate(catalog, Abilities(shares=False, punches=True), 1)


def look(keeper: Keeper, mount: Path, at: int) -> None:
    """What a restart finds after a cut, and that it can go on from there."""
    store = Store(mount / "store")
    with open_catalog(open_on(mount)) as catalog:
        recover(catalog, store, now=BEGIN)
        found = kept(catalog)
        assert keeper.history.must_be(at) <= found
        assert not keeper.history.must_not_be(at) & found
        require_right(keeper, store, found)
        work = Consolidation(store, catalog, Abilities(shares=False, punches=True), max_depth=1)
        for disk in work.waiting():
            work.consolidate(disk, at_once)
        assert kept(catalog) == found
        require_right(keeper, store, found)


def kept(catalog: Catalog) -> set[str]:
    with catalog.read() as db:
        return {point.id for point in list_points(db)}


def require_right(keeper: Keeper, store: Store, points: set[str]) -> None:
    for point in points:
        layer = store.disk("db", "vd-a").layer(point)
        assert same_content(layer, keeper.copies / f"{point}.raw"), point
        assert is_clean(layer), point


async def wrong_cuts(folder: Path, kind: str, cuts: int) -> int:
    """After how many power cuts something is lost, wrong, or cannot be opened."""
    copies, image, mount = folder / "copies", folder / "image", folder / "after"
    copies.mkdir()
    mount.mkdir()
    with logged_device(folder, kind) as device:
        keeper = Keeper(device, copies)
        begin = len(device.entries())
        await live(keeper)
    entries, chance, wrong = device.entries(), random.Random(7), 0
    flushes = [at for at, each in enumerate(entries) if each.flags & 1 and at > begin]
    for cut in range(cuts):
        # half of them anywhere, half around flushes, where orders matter
        near = chance.choice(flushes) + chance.randint(-3, 3)
        at = chance.randint(begin, len(entries)) if cut % 2 else max(begin, min(near, len(entries)))
        device.after_cut(image, at, chance)
        with mounted(image, mount):
            if (mount / "store" / "vms").is_dir():
                wrong += not is_right(keeper, mount, at)
    return wrong


def is_right(keeper: Keeper, mount: Path, at: int) -> bool:
    try:
        look(keeper, mount, at)
    except (AssertionError, ReceiverError, OSError, SQLAlchemyError) as error:
        log.error("power cut after entry %d: %s", at, error)
        return False
    return True


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.timeout(120 + 3 * CUTS)
async def test_no_power_cut_costs_or_changes_a_point(tmp_path: Path, kind: str) -> None:
    assert await wrong_cuts(tmp_path, kind, CUTS) == 0


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.timeout(180)
async def test_a_missing_sync_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A test of the test above: the same without any fsync of ours must lose something."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None)
    assert await wrong_cuts(tmp_path, kind, 20) > 0
