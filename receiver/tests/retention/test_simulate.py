# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention.sample_points import DAY, DISK, HOUR, NOW, at, kept, point, scoped, series

from livebackup_receiver.retention.forecast import Forecast
from livebackup_receiver.retention.policy import ScopedPolicy
from livebackup_receiver.retention.schedule import Schedule
from livebackup_receiver.retention.simulate import simulate
from livebackup_receiver.retention.sizes import History, Layer
from livebackup_receiver.retention.verdicts import PointFacts, judge

WEB = ("web1", "virtio0")
GFS = scoped(hourly=24, daily=7, weekly=4, monthly=12)


def forecast(
    points: Sequence[PointFacts] = (),
    *policies: ScopedPolicy,
    every: str = "every 1h",
    sizes: History | None = None,
    until: datetime,
) -> Forecast:
    return simulate(
        "nightly",
        points,
        history=sizes or {},
        schedule=Schedule.parse(every),
        policies=policies,
        now=NOW,
        until=until,
    )


def chain_sizes(points: Sequence[PointFacts], *sizes: int) -> Mapping[str, Mapping[tuple[str, str], Layer]]:
    """Layers of these points, newest first as they are; the oldest is the base."""
    full = [False] * (len(points) - 1) + [True]
    return {
        each.id: {DISK: Layer(stored, is_full)}
        for each, stored, is_full in zip(points, sizes, full, strict=True)
    }


def test_a_year_of_hourly_backups_comes_to_what_the_rules_say() -> None:
    found = forecast([], GFS, until=NOW + timedelta(days=365))
    assert len(found.steps) == 1 + 365 * 24 + 1
    # in steady state; some of the days are among the hours, weeks among the days, months among these
    assert {step.count for step in found.steps[-30 * 24 :]} <= set(range(38, 48))
    end = found.on(NOW + timedelta(days=365))
    everything = [point(NOW + number * HOUR) for number in range(1, 365 * 24 + 1)]
    assert [each.cut_at for each in end.points] == [
        each.cut_at for each in kept(judge(everything, [GFS], end.at))
    ]


def test_existing_points_go_as_planned_ones_come() -> None:
    points = series(3, HOUR)
    found = forecast(points, scoped(keep_last=3), until=NOW + 2 * HOUR)
    assert [each.id for each in found.on(NOW).points] == [each.id for each in points]
    assert [each.id for each in found.on(NOW + HOUR).points] == [None, points[0].id, points[1].id]
    assert [each.cut_at for each in found.on(NOW + 2 * HOUR).points] == [NOW + 2 * HOUR, NOW + HOUR, NOW]
    assert found.points[-1].dropped_at == NOW + HOUR


def test_what_retention_would_drop_now_is_dropped_at_once() -> None:
    found = forecast(series(9, HOUR), scoped(keep_last=3), until=NOW + HOUR)
    assert found.on(NOW).count == 3


def test_backups_follow_the_schedule_in_the_zone_of_the_policy() -> None:
    policy = scoped(daily=30, time_zone="Europe/Berlin")
    found = forecast([], policy, every="daily at 02:00", until=NOW + 3 * DAY)
    assert [each.cut_at for each in reversed(found.points)] == [
        at(f"2026-11-{day}T02:00+01:00") for day in (21, 22, 23)
    ]


def test_a_base_stays_as_big_as_the_disk_and_increments_cost_their_median() -> None:
    points = series(3, HOUR)
    found = forecast(
        points, scoped(keep_last=3), sizes=chain_sizes(points, 10, 10, 1000), until=NOW + 20 * HOUR
    )
    assert {step.estimated_bytes for step in found.steps} == {1020}
    assert (found.peak.estimated_bytes, found.peak.count) == (1030, 4)
    assert found.peak.at == NOW + HOUR
    assert found.unknown_disks == ()


def test_changes_of_a_day_overlap() -> None:
    points = series(2, HOUR, last=at("2026-11-19T23:00"))
    found = forecast(
        points, scoped(daily=2), sizes=chain_sizes(points, 10, 1000), until=at("2026-11-22T23:00")
    )
    # 24 increments of 1 % change 21.4 % of the disk, not 24 %
    assert found.on(at("2026-11-22T23:00")).estimated_bytes == pytest.approx(1000 + 214, abs=3)


def test_a_disk_without_a_single_increment_is_named() -> None:
    points = [point(NOW)]
    found = forecast(points, scoped(keep_last=9), sizes=chain_sizes(points, 1000), until=NOW + 3 * HOUR)
    assert found.unknown_disks == (DISK,)
    assert found.steps[-1].estimated_bytes == 1000


def test_a_vm_that_has_left_is_forgotten_with_its_last_point() -> None:
    old = point(NOW - HOUR, disks=(DISK, WEB))
    points = [point(NOW), old]
    sizes = {
        old.id: {DISK: Layer(1000, full=True), WEB: Layer(7000, full=True)},
        points[0].id: {DISK: Layer(0)},
    }
    found = forecast(points, scoped(keep_last=2), sizes=sizes, until=NOW + 2 * HOUR)
    assert [step.estimated_bytes for step in found.steps] == [8000, 1000, 1000, 1000]


def test_planned_points_hold_what_the_newest_complete_one_holds() -> None:
    points = [point(NOW, complete=False), point(NOW - HOUR, disks=(DISK, WEB))]
    policies = [scoped(keep_last=1), scoped("vm:web1", keep_last=4)]
    found = forecast(points, *policies, until=NOW + 6 * HOUR)
    assert found.on(NOW + 6 * HOUR).count == 4


def test_a_pin_is_held_until_it_ends() -> None:
    pinned = point(NOW - DAY, pin_reason="before the upgrade", pin_until=NOW + 3 * HOUR)
    found = forecast([point(NOW), pinned], scoped(keep_last=1), until=NOW + 5 * HOUR)
    assert [step.count for step in found.steps] == [2, 2, 2, 1, 1, 1, 1]


def test_what_ends_after_the_last_backup_ends() -> None:
    points = [point(NOW), point(NOW - DAY)]
    found = forecast(points, scoped(keep_within="2d"), every="every 1w", until=NOW + 3 * DAY)
    assert [step.count for step in found.steps] == [2, 1]


def test_a_group_without_a_policy_only_grows() -> None:
    found = forecast(series(2, HOUR), until=NOW + 5 * HOUR)
    assert [step.count for step in found.steps] == [2, 3, 4, 5, 6, 7, 7]


def test_a_forecast_of_the_past_is_refused() -> None:
    with pytest.raises(ValueError, match="the forecast must end after 2026-11-20T12:00:00"):
        forecast([], GFS, until=NOW)


def test_a_forecast_of_too_many_backups_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livebackup_receiver.retention.simulate.MOST_RUNS", 10)
    assert forecast([], GFS, until=NOW + 10 * HOUR)
    with pytest.raises(ValueError, match="more than 10 backups lie before the end"):
        forecast([], GFS, until=NOW + 11 * HOUR)


@given(st.lists(st.integers(0, 5000), max_size=10, unique=True), st.integers(1, 60))
def test_count_and_bytes_agree_with_the_points_on_every_date(ages: list[int], hours: int) -> None:
    points = sorted((point(NOW - timedelta(minutes=age)) for age in ages), key=lambda each: each.cut_at)
    sizes = {each.id: {DISK: Layer(1000 - number, number == 0)} for number, each in enumerate(points)}
    found = forecast(points, scoped(hourly=3, daily=2), sizes=sizes, until=NOW + hours * HOUR)
    assert found.peak.estimated_bytes >= max(step.estimated_bytes for step in found.steps)
    for step in found.steps:
        stock = found.on(step.at)
        assert stock.count == step.count
        assert stock.estimated_bytes <= 1000 * stock.count
