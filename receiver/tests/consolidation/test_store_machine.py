# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups, drops, policies, pins, merges, kills and restarts in any order: kept points never change.

After each step every kept point of every disk is compared, by QEMU alone, with a copy that QEMU made when the
point was new.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from encrypted_layers import RING, copy_of, is_clean, reads_as
from forked import killed_at
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sample_store import KIB, SampleStore, Write

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import has_point, list_points, load_point
from livebackup_receiver.chain import keyring
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.chain.keyring import Keyring
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.recovery import forget_gone, recover_merges
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.decisions import drop_points, lock_point, pin_point, recover_marks, unpin_point
from livebackup_receiver.errors import PointKept
from livebackup_receiver.model import Point
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopedPolicy
from livebackup_receiver.retention.verdicts import PointFacts, judge
from livebackup_receiver.store.ancestry import ancestry
from livebackup_receiver.store.digests import read_chain, root_of
from livebackup_receiver.store.marks import read_marks
from livebackup_receiver.store.paths import Store

DISKS = (("db", "vd-a"), ("web", "vd-a"))
FIRST_SIZE = 20 * 64 * KIB + 512
MERGES = [point for point, when in faultpoints.POINTS.items() if when == faultpoints.MERGE]
HOW = ("", "", "", "write -z", "write -z -u", "discard", "discard")

offsets = st.integers(0, 30)
lengths = st.integers(1, 4)
writes = st.lists(
    st.builds(
        lambda place, count, value, how, odd: (place * 64 * KIB + odd, count * 64 * KIB - odd, value, how),
        offsets, lengths, st.integers(1, 255), st.sampled_from(HOW), st.sampled_from([0, 0, 512, 4096]),
    ),
    max_size=6,
)  # fmt: skip
policies = st.builds(
    RetentionPolicy,
    keep_last=st.integers(1, 3),
    hourly=st.none() | st.integers(1, 3),
    daily=st.none() | st.integers(1, 2),
)


class StoreMachine(RuleBasedStateMachine):
    """A store of two VMs, in which layers may be encrypted, or may not, as they come.

    :cvar place: where the store is made; None: where temporary files are
    """

    place: ClassVar[Path | None] = None

    @initialize()
    def open(self) -> None:
        keyring.use(RING)
        self.folder = Path(tempfile.mkdtemp(prefix="store-machine-", dir=self.place))
        (self.folder / "store").mkdir()
        self.url = f"sqlite:///{self.folder}/catalog.sqlite3"
        self.opened = open_catalog(self.url)
        self.catalog: Catalog = self.opened.__enter__()
        self.store = Store(self.folder / "store")
        self.sample = SampleStore(self.store.root, self.catalog)
        self.sizes = dict.fromkeys(DISKS, FIRST_SIZE)
        self.clock = datetime(2026, 1, 1, tzinfo=UTC)
        self.pinned: set[str] = set()
        self.locked: set[str] = set()

    def teardown(self) -> None:
        keyring.use(Keyring())
        if hasattr(self, "opened"):
            self.opened.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    @property
    def kept(self) -> list[Point]:
        with self.catalog.read() as db:
            return list_points(db)

    @rule(
        changes=st.tuples(writes, writes),
        growth=st.integers(0, 3),
        hours=st.integers(1, 30),
        locked=st.sampled_from([False, False, True]),
    )
    def back_up(
        self, changes: tuple[list[tuple[int, int, int, str]], ...], growth: int, hours: int, locked: bool
    ) -> None:
        self.sample.locked = locked
        self.clock += timedelta(hours=hours)
        self.sizes[DISKS[0]] += growth * 40 * KIB // 512 * 512
        done = {
            disk: [
                Write(offset, min(length, self.sizes[disk] - offset), value, how)
                for offset, length, value, how in some
                if offset < self.sizes[disk]
            ]
            for disk, some in zip(DISKS, changes, strict=True)
        }
        point = self.sample.add(done, cut_at=self.clock, sizes=self.sizes)
        for disk in DISKS:
            layer = self.store.disk(*disk).layer(point.id)
            copy_of(layer, self.copy(point.id, disk))

    @precondition(lambda self: self.kept)
    @rule(number=st.integers(0, 20))
    def restore_in_place(self, number: int) -> None:
        """Both VMs go on from a kept point, so that the next one makes the chain a tree."""
        point = self.kept[number % len(self.kept)]
        for vm in point.vms:
            for disk in vm.disks:
                self.sample.restored(point, b"", vm.vm, disk.disk)
                self.sizes[vm.vm, disk.disk] = disk.virtual_size

    def copy(self, point: str, disk: tuple[str, str]) -> Path:
        return self.folder / f"{point}-{disk[0]}.raw"

    @precondition(lambda self: len({each.id for each in self.kept} - {*self.sample.heads.values()}) > 0)
    @rule(number=st.integers(0, 20))
    def drop(self, number: int) -> None:
        # Nothing drops what the next backup lies on: without it, that would be a full one.
        older = [each for each in self.kept if each.id not in self.sample.heads.values()]
        point = older[number % len(older)].id
        try:
            drop_points(self.catalog, self.store, [point], now=self.clock)
        except PointKept:
            assert point in self.pinned | self.locked
        else:
            assert point not in self.pinned | self.locked

    @precondition(lambda self: self.kept)
    @rule(number=st.integers(0, 20), keep=st.sampled_from(["pin", "unpin", "lock"]))
    def decide(self, number: int, keep: str) -> None:
        point = self.kept[number % len(self.kept)].id
        if keep == "pin":
            pin_point(self.catalog, self.store, point, reason="before the upgrade", until=None)
            self.pinned.add(point)
        elif keep == "unpin":
            unpin_point(self.catalog, self.store, point)
            self.pinned.discard(point)
        elif point not in self.locked:
            lock_point(self.catalog, self.store, point, until=self.clock + timedelta(days=9999))
            self.locked.add(point)

    @rule(policy=policies)
    def apply(self, policy: RetentionPolicy) -> None:
        facts = [_facts(point) for point in self.kept]
        scoped = [ScopedPolicy(Scope.parse("group:nightly"), policy)]
        expired = [each.point.id for each in judge(facts, scoped, self.clock) if not each.keep]
        self.sample.forget(expired)
        assert not set(expired) & (self.pinned | self.locked)
        drop_points(self.catalog, self.store, expired, now=self.clock)

    @rule(max_depth=st.integers(1, 5), punches=st.booleans(), shares=st.booleans())
    def consolidate(self, max_depth: int, punches: bool, shares: bool) -> None:
        work = Consolidation(self.store, self.catalog, Abilities(shares, punches), max_depth=max_depth)
        for disk in work.waiting():
            work.consolidate(disk, at_once)

    @rule(point=st.sampled_from(MERGES), hit=st.integers(1, 2), shares=st.booleans())
    def kill(self, point: str, hit: int, shares: bool) -> None:
        def work() -> None:
            with open_catalog(self.url) as catalog:
                done = Consolidation(self.store, catalog, Abilities(shares, True), max_depth=1)
                for disk in done.waiting():
                    done.consolidate(disk, at_once)

        killed_at(point, hit, work, self.folder)

    @rule()
    def restart(self) -> None:
        recover_marks(self.catalog, self.store)
        recover_merges(self.catalog, self.store)
        forget_gone(self.catalog, self.store)
        with self.catalog.read() as db:
            assert all(has_point(db, mark.point) for mark in read_marks(self.store))
        for point in self.kept:
            for disk in DISKS:
                self.require_digests(point, disk)

    def require_digests(self, point: Point, disk: tuple[str, str]) -> None:
        directory = self.store.disk(*disk)
        tables = read_chain([directory.digests(each) for each in ancestry(directory, point.id)])
        with self.catalog.read() as db:
            held = [d for vm in load_point(db, point.id).vms if vm.vm == disk[0] for d in vm.disks]
        assert root_of(tables) == held[0].root

    @invariant()
    def kept_points_are_what_they_were(self) -> None:
        if not hasattr(self, "store"):
            return
        for point in self.kept:
            for disk in DISKS:
                layer = self.store.disk(*disk).layer(point.id)
                assert reads_as(layer, self.copy(point.id, disk)), (point.id, disk)
                assert is_clean(layer), (point.id, disk)


def _facts(point: Point) -> PointFacts:
    disks = tuple((vm.vm, disk.disk) for vm in point.vms for disk in vm.disks)
    return PointFacts(
        point.id, point.group, point.cut_at, point.complete, disks,
        point.pin_reason, point.pin_until, point.locked_until,
    )  # fmt: skip


def course(examples: int) -> settings:
    """So many random courses of the machine."""
    return settings(
        max_examples=examples,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # A failure is told as it is found: making it smaller takes minutes.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )


@pytest.mark.timeout(300)
def test_kept_points_never_change() -> None:
    run_state_machine_as_test(StoreMachine, settings=course(25))


@pytest.mark.timeout(300)
def test_nor_where_files_share_extents(sharing_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreMachine, "place", sharing_path)
    run_state_machine_as_test(StoreMachine, settings=course(12))
