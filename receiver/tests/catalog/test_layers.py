# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of committed points."""

from __future__ import annotations

from datetime import timedelta

from sample_records import NOW, point

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layers import list_layers
from livebackup_receiver.catalog.points import add_point


def test_every_layer_is_listed_oldest_first(catalog: Catalog) -> None:
    old, new = point(), point(NOW + timedelta(days=1))
    with catalog.write() as db:
        add_point(db, new)
        add_point(db, old)
    with catalog.read() as db:
        assert list_layers(db) == [f"vms/db/vd-a/{old.id}.qcow2", f"vms/db/vd-a/{new.id}.qcow2"]
