# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan that does not fit the VM is refused before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _plan
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DiskUnknown, NotTracked
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap


def plan(disk: str, parent: str | None) -> dict[str, Any]:
    return {"point": "P", "vms": [{"vm": "db", "disks": [{"disk": disk, "parent": parent, "export": "e"}]}]}


def test_other_vms_are_not_ours(make_vm: Any, make_disk: Any) -> None:
    assert _plan.disk_plans(make_vm(make_disk(), name="web"), plan("vd-a", None)) == []


def test_an_unknown_disk(make_vm: Any, make_disk: Any) -> None:
    with pytest.raises(DiskUnknown):
        _plan.disk_plans(make_vm(make_disk()), plan("vd-x", None))


@pytest.mark.parametrize("bitmaps", [[], [{"inconsistent": True}], [{"recording": False}]])
def test_an_increment_needs_a_healthy_bitmap(
    make_vm: Any, make_disk: Any, points: Any, bitmaps: list[dict[str, bool]]
) -> None:
    found = [Bitmap("disk-a", f"livebackup:{points[0]}", **changes) for changes in bitmaps]
    with pytest.raises(NotTracked, match="no healthy bitmap has recorded them; repeat the backup"):
        _plan.disk_plans(make_vm(make_disk(*found)), plan("vd-a", points[0]))
