# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: who reads from a point keeps it, whatever becomes of receiver and catalog."""

from __future__ import annotations

from datetime import timedelta

import pytest
from held_points import DAY, HOUR, LAST_TWO, hold
from sample_records import NOW

from livebackup_receiver import leases
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import list_points
from livebackup_receiver.config import Config
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.errors import DiskUnknown, LeaseUnknown, ManifestInvalid, PointKept, TokenInvalid
from livebackup_receiver.exports import LiveExports
from livebackup_receiver.leases import LiveLeases, find_lease, load_leases, prove, release_lease, take_lease
from livebackup_receiver.policies import declare_policy
from livebackup_receiver.retention.act import apply_retention, drop_point, plan_retention, preview_retention
from livebackup_receiver.retention.declared import ProposedPolicy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.store.leases import Lease
from livebackup_receiver.store.paths import Store

TTL = timedelta(days=30)
POLICY = RetentionPolicy.model_validate(LAST_TWO)


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.store)


def take(catalog: Catalog, store: Store, point: str, ttl: timedelta = TTL) -> tuple[Lease, str]:
    return take_lease(catalog, store, point=point, vm="db", disks=None, holder="hv1", ttl=ttl)


def ids(catalog: Catalog) -> list[str]:
    with catalog.read() as db:
        return [each.id for each in list_points(db)]


def test_a_leased_point_is_kept_until_the_lease_is_released(catalog: Catalog, store: Store) -> None:
    made = hold(catalog, 5, last=NOW)
    declare_policy(catalog, store, Scope.parse("group:nightly"), POLICY, now=NOW)
    lease, dummy = take(catalog, store, made[3].id)
    words = f"in use by an instant restore of db on hv1 since {lease.model_dump(mode='json')['taken_at']}"
    rules = {each.point: each.rules for each in plan_retention(catalog, store, "nightly", now=NOW).verdicts}
    assert rules[made[3].id] == [words]
    proposal = [ProposedPolicy(scope="group:nightly", policy=POLICY)]
    previewed = preview_retention(catalog, store, proposal, now=NOW)
    assert made[3].id not in [each.point for each in previewed.after]
    with pytest.raises(
        PointKept, match=f"it is {words}; wait, take the pin away, or end the instant restore"
    ):
        drop_point(catalog, store, made[3].id, now=NOW)
    assert apply_retention(catalog, store, "nightly", now=NOW).dropped == [made[2].id, made[4].id]
    release_lease(store, lease.id)
    assert apply_retention(catalog, store, "nightly", now=NOW).dropped == [made[3].id]


def test_an_unused_lease_ends_by_itself(
    catalog: Catalog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hold(catalog, 2)
    lease, dummy = take(catalog, store, made[1].id)
    later = lease.taken_at + TTL
    with pytest.raises(PointKept):
        drop_points(catalog, store, [made[1].id], now=later - timedelta(seconds=1))
    drop_points(catalog, store, [made[1].id], now=later)
    monkeypatch.setattr(leases, "now", lambda: later)
    assert load_leases(store) == []
    with pytest.raises(LeaseUnknown, match="was released or has expired"):
        find_lease(store, lease.id)
    leases.sweep_leases(store)
    assert list(store.leases.iterdir()) == []


def test_every_use_puts_the_end_off(catalog: Catalog, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = hold(catalog, 1)
    lease, dummy = take(catalog, store, made[0].id)
    exports = LiveExports(ports=PortRange(range(0)), listen="", run=store.run, ttl_s=1, timeout_s=1)
    live = LiveLeases(store, exports, TTL)
    live.renew(lease.id)
    assert find_lease(store, lease.id) == lease
    monkeypatch.setattr(leases, "now", lambda: lease.taken_at + 20 * DAY)
    live.renew(lease.id)
    assert find_lease(store, lease.id).expires_at == lease.taken_at + 20 * DAY + TTL
    assert find_lease(store, lease.id).used_at == lease.taken_at + 20 * DAY


def test_the_secret_is_not_in_the_store(catalog: Catalog, store: Store) -> None:
    lease, secret = take(catalog, store, hold(catalog, 1)[0].id)
    path = store.lease(lease.id)
    assert secret not in path.read_text()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    prove(lease, secret)
    for wrong in (None, "", secret[:-1], "x" * 43):
        with pytest.raises(TokenInvalid):
            prove(lease, wrong)


def test_disks_that_are_not_there_cannot_be_leased(catalog: Catalog, store: Store) -> None:
    point = hold(catalog, 1, HOUR)[0]
    with pytest.raises(DiskUnknown):
        take_lease(catalog, store, point=point.id, vm="db", disks=["none"], holder="hv1", ttl=TTL)
    assert load_leases(store) == []


def test_nothing_is_dropped_while_a_lease_cannot_be_read(catalog: Catalog, store: Store) -> None:
    made = hold(catalog, 2)
    lease, dummy = take(catalog, store, made[0].id)
    store.lease(lease.id).write_text("{")
    with pytest.raises(ManifestInvalid):
        drop_points(catalog, store, [made[1].id], now=NOW)
    assert ids(catalog) == [each.id for each in made]
