# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies in the catalog."""

from __future__ import annotations

import pytest
from held_points import hold
from sample_records import NOW

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.policies import groups_in, load_policies, save_policies
from livebackup_receiver.catalog.schema import PointRow
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope


def test_policies_are_given_as_they_were_saved(catalog: Catalog) -> None:
    policies = [
        DeclaredPolicy(
            scope=scope,
            policy=RetentionPolicy(daily=7, keep_within="14d", time_zone="Asia/Kathmandu"),
            changed_at=NOW,
        )
        for scope in ("disk:db1/virtio0", "group:nightly")
    ]
    for saved in (policies, policies[:1], []):
        with catalog.write() as db:
            save_policies(db, saved)
        with catalog.read() as db:
            assert load_policies(db) == saved


@pytest.mark.parametrize(
    ("scopes", "groups"),
    [
        (["group:nightly"], ["nightly"]),
        (["group:never"], []),
        (["vm:web"], ["weekly"]),
        (["vm:db"], ["nightly", "weekly"]),
        (["disk:web/vd-z"], ["weekly"]),
        (["vm:gone"], []),
        (["group:nightly", "vm:web"], ["nightly", "weekly"]),
        ([], []),
    ],
)
def test_the_groups_of_scopes_are_found(catalog: Catalog, scopes: list[str], groups: list[str]) -> None:
    nightly = hold(catalog, 2, last=NOW)
    hold(catalog, 2, last=nightly[1].cut_at, group="weekly", vms=("web", "db"))
    (dropped,) = hold(catalog, 1, last=NOW.replace(year=2020), group="old", vms=("gone",))
    with catalog.write() as db:
        row = db.get(PointRow, dropped.id)
        assert row is not None
        row.dropped_at = NOW
    with catalog.read() as db:
        assert groups_in(db, [Scope.parse(each) for each in scopes]) == groups
