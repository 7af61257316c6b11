# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs with their newest points."""

from __future__ import annotations

from datetime import timedelta

from sample_records import NOW, new_id, point, point_vm

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.catalog.vms import newest_of_each_vm


def test_each_vm_is_listed_once_with_its_newest_point(catalog: Catalog) -> None:
    later = NOW + timedelta(days=1)
    with catalog.write() as db:
        add_point(db, point(vms=[point_vm("db", new_id(NOW)), point_vm("web", new_id(NOW))], id=new_id(NOW)))
        add_point(db, point(later, vms=[point_vm("db", new_id(later), pause_ms=31.0)]))
    with catalog.read() as db:
        db_vm, web_vm = newest_of_each_vm(db)
    assert (db_vm.vm, db_vm.cut_at, db_vm.pause_ms, db_vm.disks) == ("db", later, 31.0, 1)
    assert (web_vm.vm, web_vm.cut_at, web_vm.group) == ("web", NOW, "nightly")


def test_a_new_catalog_has_no_vm(catalog: Catalog) -> None:
    with catalog.read() as db:
        assert newest_of_each_vm(db) == []
