# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from livebackup_receiver.storage_daemon.ports import PortRange


def test_each_lease_has_a_port_of_its_own() -> None:
    ports = PortRange(range(100, 103))
    with ports.lease() as first, ports.lease() as second:
        assert {next(first), next(second)} == {100, 101}


def test_a_port_that_cannot_be_bound_is_passed_over_and_not_held() -> None:
    ports = PortRange(range(100, 102))
    with ports.lease() as first:
        assert [next(first), next(first)] == [100, 101]
        with ports.lease() as second:
            assert list(second) == [100]


def test_a_full_range_has_no_candidates() -> None:
    ports = PortRange(range(100, 101))
    with ports.lease() as first:
        next(first)
        with ports.lease() as second:
            assert list(second) == []


def test_a_port_comes_back() -> None:
    ports = PortRange(range(100, 101))
    for dummy in range(3):
        with ports.lease() as lease:
            assert next(lease) == 100


def test_a_port_is_not_used_again_at_once() -> None:
    ports = PortRange(range(100, 103))
    used = []
    for dummy in range(3):
        with ports.lease() as lease:
            used.append(next(lease))
    assert used == [100, 101, 102]
