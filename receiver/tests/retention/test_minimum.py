# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not be dropped by hand."""

from __future__ import annotations

from retention.sample_points import DAY, HOUR, NOW, point, scoped, series

from livebackup_receiver.retention.minimum import undercut


def test_without_a_policy_anything_may_go() -> None:
    (only,) = series(1, DAY)
    assert undercut(only.id, [only], [], NOW) is None


def test_more_points_than_the_minimum_may_go_in_any_order() -> None:
    points = series(3, DAY)
    assert all(undercut(each.id, points, [scoped(keep_last=9, minimum=2)], NOW) is None for each in points)


def test_the_last_complete_points_may_not_go() -> None:
    points = series(2, DAY)
    policy = scoped(keep_last=9, minimum=2)
    assert [undercut(each.id, points, [policy], NOW) for each in points] == [policy, policy]


def test_incomplete_points_do_not_count_and_may_go() -> None:
    whole, part = point(NOW), point(NOW - HOUR, complete=False)
    policy = scoped(keep_last=9)
    assert undercut(whole.id, [whole, part], [policy], NOW) == policy
    assert undercut(part.id, [whole, part], [policy], NOW) is None


def test_points_of_a_clock_that_was_wrong_do_not_count_and_may_go() -> None:
    now, future = point(NOW), point(NOW + DAY)
    policy = scoped(keep_last=9)
    assert undercut(now.id, [now, future], [policy], NOW) == policy
    assert undercut(future.id, [now, future], [policy], NOW) is None


def test_a_policy_of_a_vm_counts_the_points_with_that_vm() -> None:
    web = ("web1", "virtio0")
    old, new = point(NOW - DAY, disks=(web,)), point(NOW)
    policy = scoped("vm:web1", keep_last=9)
    assert undercut(old.id, [old, new], [policy], NOW) == policy
    assert undercut(new.id, [old, new], [policy], NOW) is None
