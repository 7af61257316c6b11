# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on real parts: each claim that `make demo` prints, as a test of its own."""

from __future__ import annotations

import pytest

from demo import proofs, story
from demo.site import Site
from demo.story import Evidence

pytestmark = pytest.mark.timeout(1800)


def test_the_first_point_is_full_and_the_next_two_are_incremental(evidence: Evidence) -> None:
    levels = [{disk["level"] for vm in point["vms"] for disk in vm["disks"]} for point in evidence.points]
    assert levels == [{"full"}, {"incremental"}, {"incremental"}]


def test_every_point_holds_all_six_disks(evidence: Evidence) -> None:
    for point in evidence.points:
        assert len(list(proofs.disks_of(point))) == 6
        assert point["complete"] is True


def test_each_point_tells_the_consistency_it_reached_and_each_pause(evidence: Evidence) -> None:
    assert [point["consistency"] for point in evidence.points] == list(story.RUNS)
    for vm in (vm for point in evidence.points for vm in point["vms"]):
        assert 0 < vm["pause_ms"] < 5000


def test_an_increment_holds_only_the_dirty_clusters(evidence: Evidence) -> None:
    proofs.increments_hold_only_dirty_clusters(evidence.points)


def test_every_restored_image_is_bit_identical_to_the_frozen_state(site: Site, evidence: Evidence) -> None:
    proofs.restored_equal_truth(site, evidence.points)


def test_order_holds_across_disks_and_vms_in_every_point(site: Site, evidence: Evidence) -> None:
    proofs.order_holds(site, evidence.points)


def test_the_newest_point_boots_and_reports_its_record(site: Site, evidence: Evidence) -> None:
    proofs.newest_point_boots(site, evidence.points[-1])


def test_every_layer_is_clean(site: Site, evidence: Evidence) -> None:
    proofs.layers_are_clean(site, evidence.points)


def test_qemu_img_alone_restores_every_point(site: Site, evidence: Evidence) -> None:
    proofs.qemu_img_alone_restores(site, evidence.points)


def test_deploying_and_tracking_twice_change_nothing(site: Site, evidence: Evidence) -> None:
    story.nothing_changed(site, evidence)


def test_the_page_shows_the_running_session_and_then_the_points(evidence: Evidence) -> None:
    story.page_showed(evidence)


def test_nothing_is_left_behind(site: Site, evidence: Evidence) -> None:
    proofs.nothing_left(site)
