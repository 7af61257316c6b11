# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is removed from a VM, by the names on it and the receiver's verdict."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _names, _reconcile
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverRefused, VmOwned
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap


class FakeReceiver:
    """Knows one session, or none."""

    def __init__(self, state: str | None) -> None:
        self._state = state

    def get(self, dummy: str) -> dict[str, Any]:
        if self._state is None:
            raise ReceiverRefused("there is no such session", code="session-unknown", status=404)
        return {"state": self._state, "group": "nightly"}


def test_only_what_the_verdict_names_and_frozen_copies_go(make_vm: Any, make_disk: Any, points: Any) -> None:
    old, new = points
    disk = make_disk(_names.MARKER, _names.FROZEN, f"livebackup:{old}", f"livebackup:{new}", "others")
    removals = _reconcile.removals(make_vm(disk), {"vd-a": {"keep": new, "remove": [old]}})
    assert removals == [("disk-a", _names.FROZEN), ("disk-a", f"livebackup:{old}")]


def test_the_end_goes_with_its_checkpoint(make_vm: Any, make_disk: Any, points: Any) -> None:
    old, new = points
    disk = make_disk(*(f"livebackup:{end}{point}" for point in points for end in ("", "end:")))
    removals = _reconcile.removals(make_vm(disk), {"vd-a": {"keep": new, "remove": [old]}})
    assert removals == [("disk-a", f"livebackup:{old}"), ("disk-a", f"livebackup:end:{old}")]


def test_an_end_without_its_checkpoint_goes(make_vm: Any, make_disk: Any, points: Any) -> None:
    disk = make_disk(f"livebackup:end:{points[0]}")
    assert _reconcile.removals(make_vm(disk), {}) == [("disk-a", f"livebackup:end:{points[0]}")]


@pytest.mark.parametrize(
    ("bitmap", "lacks"),
    [
        (Bitmap("top", _names.MARKER), False),
        (Bitmap("top", _names.MARKER, inconsistent=True), True),
        (Bitmap("base", _names.MARKER), True),
        (Bitmap("top", "livebackup:01JD2M3V5W6X7Y8Z9A0B1C2D3E"), True),
        (Bitmap("top", "others"), False),
    ],
)
def test_a_marker_is_renewed_where_it_is_missing(make_disk: Any, bitmap: Bitmap, lacks: bool) -> None:
    assert _reconcile.lacks_marker(make_disk(bitmap, node="top", chain=("base",))) is lacks


def test_a_point_given_up_goes_too(make_vm: Any, make_disk: Any, points: Any) -> None:
    old, new = points
    disk = make_disk(f"livebackup:{old}", f"livebackup:{new}")
    assert _reconcile.removals(make_vm(disk), {}, given_up=new) == [("disk-a", f"livebackup:{new}")]


def test_without_a_verdict_checkpoints_stay(make_vm: Any, make_disk: Any, points: Any) -> None:
    assert _reconcile.removals(make_vm(make_disk(f"livebackup:{points[0]}")), {}) == []


def test_nothing_is_removed_from_read_only_backing_nodes(make_vm: Any, make_disk: Any, points: Any) -> None:
    disk = make_disk(Bitmap("base", f"livebackup:{points[0]}"), chain=("base",))
    assert _reconcile.removals(make_vm(disk), {"vd-a": {"keep": None, "remove": [points[0]]}}) == []


@pytest.mark.parametrize("state", ["joining", "cutting", "sealing"])
def test_a_vm_of_an_open_session_is_refused(make_vm: Any, state: str) -> None:
    vm = make_vm(objects=("lb-session-X",))
    with pytest.raises(VmOwned, match="open session X of group nightly"):
        _reconcile.refuse_owned(FakeReceiver(state), vm, "Y")


@pytest.mark.parametrize("state", ["committed", "aborted", None])
def test_what_an_ended_or_forgotten_session_left_may_be_taken(make_vm: Any, state: str | None) -> None:
    _reconcile.refuse_owned(FakeReceiver(state), make_vm(objects=("lb-session-X",)), "Y")


def test_ones_own_session_may_be_taken_up_again(make_vm: Any) -> None:
    _reconcile.refuse_owned(FakeReceiver("joining"), make_vm(objects=("lb-session-Y",)), "Y")
