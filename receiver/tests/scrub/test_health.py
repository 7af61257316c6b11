# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told after a scrub, and what is not given out any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from damaging import CLUSTER, bad_sector, flip, flip_in_file, place_of
from sample_store import SampleStore, Write

from livebackup_receiver.catalog.layer_checks import candidates
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.errors import PointDamaged
from livebackup_receiver.model import Point
from livebackup_receiver.scrub import health
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.known import require_sound
from livebackup_receiver.store.paths import Store

DB = ("db", "vd-a")
NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """A chain of three; the last one masks the cluster 2 of the first."""
    return [
        store.add({DB: [Write(0, 8 * CLUSTER, 1)]}),
        store.add({DB: [Write(20 * CLUSTER, CLUSTER, 2)]}),
        store.add({DB: [Write(2 * CLUSTER, CLUSTER, 3)]}),
    ]


def scrub(store: SampleStore, now: datetime = NOW) -> None:
    """Read everything that anybody needs."""
    with store.catalog.read() as db:
        layers = candidates(db)
    for each in layers:
        layer = Scrubbed(each.vm, each.disk, each.point, Store(store.root), store.catalog)
        scrub_layer(layer, at_once, now=now)


def report(store: SampleStore, *, now: datetime = NOW, days: float = 30) -> tuple[str, str]:
    return health.report(store.catalog, Store(store.root), now=now, days=days)


def states(store: SampleStore, point: Point) -> tuple[str, datetime | None, str | None]:
    (found,) = health.disk_states(store.catalog, Store(store.root), point)
    return found.state, found.checked_at, found.problem


def test_before_the_first_scrub(store: SampleStore, points: list[Point]) -> None:
    assert report(store) == ("ok", "none of 3 layers was read back yet")
    assert states(store, points[2]) == ("never", None, None)


def test_all_is_well(store: SampleStore, points: list[Point]) -> None:
    scrub(store)
    words = "3 of 3 layers were read back; the longest unread 37 hours ago"
    assert report(store, now=NOW + timedelta(hours=37)) == ("ok", words)
    assert states(store, points[2]) == ("good", NOW, None)


def test_a_scrub_that_does_not_keep_up(store: SampleStore, points: list[Point]) -> None:
    scrub(store)
    state, words = report(store, now=NOW + timedelta(days=70))
    assert state == "warning"
    assert words.endswith(
        "2 months ago, which should be 30 days at most; raise scrub_bytes_per_s or scrub_days"
    )


def test_nobody_wants_it_scrubbed(store: SampleStore, points: list[Point]) -> None:
    assert report(store, days=0) == ("ok", "the store is never read back, because scrub_days is 0")


def test_damage_names_disk_bytes_points_and_what_to_do(store: SampleStore, points: list[Point]) -> None:
    flip(store.layer(points[0]), 5 * CLUSTER)
    scrub(store)
    ids = [point.id for point in points]
    assert report(store) == (
        "failed",
        "disk vd-a of VM db is damaged (its bytes do not match their digests), bytes 327680 to 393216, at "
        f"3 points: {', '.join(ids)}; back it up again, which sends what is damaged, and to save these "
        f"points, bring db/vd-a/{ids[0]}.qcow2 back from a copy of the store and run `livebackup-receiver "
        "scrub --vm db --disk vd-a`",
    )
    for point in points:
        assert states(store, point) == ("damaged", NOW, "its bytes do not match their digests")


def test_points_that_do_not_see_the_damage_are_whole(store: SampleStore, points: list[Point]) -> None:
    flip(store.layer(points[0]), 2 * CLUSTER)
    scrub(store)
    state, words = report(store)
    assert state == "failed"
    assert f"at 2 points: {points[0].id}, {points[1].id}; the newest point is whole" in words
    assert states(store, points[2])[0] == "good"


def test_damage_that_no_kept_point_sees_is_nobody_s(store: SampleStore, points: list[Point]) -> None:
    flip(store.layer(points[0]), 2 * CLUSTER)
    scrub(store)
    drop_points(store.catalog, Store(store.root), [points[0].id, points[1].id], now=NOW)
    assert report(store)[0] == "ok"


def test_a_layer_brought_back_is_good_again(store: SampleStore, points: list[Point]) -> None:
    copy = store.layer(points[0]).read_bytes()
    flip(store.layer(points[0]), 5 * CLUSTER)
    scrub(store)
    store.layer(points[0]).write_bytes(copy)
    scrub(store)
    assert report(store)[0] == "ok"


def test_a_sector_that_cannot_be_read_is_damage_too(store: SampleStore, points: list[Point]) -> None:
    layer = store.layer(points[0])
    with bad_sector(layer, place_of(layer, 5 * CLUSTER)):
        scrub(store)
    state, words = report(store)
    assert state == "failed"
    assert words.startswith("disk vd-a of VM db is damaged (Input/output error), bytes 327680 to 393216")
    assert states(store, points[1]) == ("unreadable", NOW, "Input/output error")


def test_a_table_that_is_lost_is_a_warning(store: SampleStore, points: list[Point]) -> None:
    store.layer(points[1]).with_suffix(".digests").unlink()
    scrub(store)
    state, words = report(store)
    assert state == "warning"
    assert words.startswith(f"layer db/vd-a/{points[1].id}.qcow2: the digest table")
    assert states(store, points[0])[0] == "good"
    assert states(store, points[2])[0] == "unreadable"


def test_a_layer_that_cannot_be_opened_spoils_all_above(store: SampleStore, points: list[Point]) -> None:
    flip_in_file(store.layer(points[1]), 0)
    scrub(store)
    state, words = report(store)
    assert state == "failed"
    assert f"as a whole, at 2 points: {points[1].id}, {points[2].id}; back it up again" in words
    assert states(store, points[0])[0] == "good"


def require(store: SampleStore, point: Point) -> None:
    require_sound(store.catalog, Store(store.root), point.id, "db", ["vd-a"])


def test_what_is_damaged_is_refused_and_the_whole_points_are_named(
    store: SampleStore, points: list[Point], tmp_path: Path
) -> None:
    flip(store.layer(points[0]), 2 * CLUSTER)
    require(store, points[0])
    scrub(store)
    require(store, points[2])
    with pytest.raises(PointDamaged) as caught:
        require(store, points[0])
    assert str(caught.value) == (
        f"disk vd-a of VM db is damaged at point {points[0].id}, bytes 131072 to 196608; take point "
        f"{points[2].id}, where it is not, or what is left of this one with `livebackup-receiver restore "
        "--accept-damage`"
    )
