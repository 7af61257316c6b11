# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pure parts of a resync, and the digests' way from the receiver into a file."""

from __future__ import annotations

import contextlib
import http.client
import io
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _bits,
    _heads,
    _plan,
    _report,
    _resync,
    _transactions,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    ComparisonFailed,
    LivebackupError,
    ReceiverError,
    SnapshotBroken,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap


def test_long_ranges_are_written_in_pieces() -> None:
    assert list(_bits.writes([(65536, 65536), (5 << 30, (1 << 30) + 512)])) == [
        "write -q -z 65536 65536",
        f"write -q -z {5 << 30} {1 << 30}",
        f"write -q -z {6 << 30} 512",
    ]


@pytest.mark.parametrize(
    ("reason", "stalled", "kind", "words"),
    [
        ("Permission denied", False, SnapshotBroken, "give scratch_dir more room"),
        ("Input/output error", False, ComparisonFailed, "with its last point: Input/output error; repeat"),
        ("Permission denied", True, ComparisonFailed, "nothing moved for too long"),
    ],
)
def test_reasons(reason: str, stalled: bool, kind: type[LivebackupError], words: str) -> None:
    error = _resync.failure("db", "vd-a", reason, stalled)
    assert error.__class__ is kind
    assert words in error.message


def test_names_are_quoted_in_the_path() -> None:
    path = _resync.digests_path("01JD", "hv 1", "a/b", "vd-a")
    assert path == "/sessions/01JD/participants/hv%201/digests/a%2Fb/vd-a"


def resync_plan(vm: Any, points: Any) -> _plan.DiskPlan:
    disk = {"disk": "vd-a", "level": "resync", "parent": points[0], "export": "e"}
    (plan,) = _plan.disk_plans(vm, {"point": points[1], "vms": [{"vm": "db", "disks": [disk]}]})
    return plan


def test_a_resync_needs_no_bitmap_and_freezes_none(make_vm: Any, make_disk: Any, points: Any) -> None:
    plan = resync_plan(make_vm(make_disk()), points)
    assert (plan.compared, plan.incremental, plan.parent) == (True, False, points[0])
    (added,) = _transactions.start_checkpoints([plan])
    assert added["data"]["name"] == f"livebackup:{points[1]}"
    assert _transactions.hand_over_frozen([plan]) == []
    # the whole disk must be kept until it has been read
    assert "bitmap" not in _transactions.filter_node(plan, 4)
    assert _transactions.reading_job(plan, 0)["sync"] == "full"
    assert _transactions.backup_job(plan, 0)["sync"] == "bitmap"


def test_a_damaged_bitmap_is_reported_although_it_was_removed(
    make_vm: Any, make_disk: Any, points: Any
) -> None:
    damaged = Bitmap("disk-a", f"livebackup:{points[0]}", recording=False, inconsistent=True)
    marker = Bitmap("disk-a", "livebackup:tracked")
    before, after = make_vm(make_disk(marker, damaged)), make_vm(make_disk(marker))
    report = _report.joined(after, "absent", before, "nbdkit is not installed")
    (seen,) = report["disks"][0]["bitmaps"]
    assert (seen["point"], seen["healthy"]) == (points[0], False)
    assert (report["can_resync"], report["resync_lacks"]) == (False, "nbdkit is not installed")


@pytest.mark.parametrize(("capabilities", "able"), [({"add-fd", "getfd"}, True), ({"add-fd"}, False)])
def test_what_takes_no_descriptors_cannot_be_compared(
    make_vm: Any, make_disk: Any, capabilities: set[str], able: bool
) -> None:
    vm = make_vm(make_disk(), capabilities=frozenset(capabilities))
    report = _report.joined(vm, "absent", vm, None)
    assert report["can_resync"] is able
    assert able or "no command getfd" in report["resync_lacks"]


class Downloads:
    """A receiver that sends these bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @contextlib.contextmanager
    def download(self, path: str) -> Iterator[io.BytesIO]:
        yield io.BytesIO(self.data)


def frame(first: int, *digests: bytes) -> bytes:
    return _heads.FRAME.pack(first, len(digests)) + b"".join(digests)


def fetch(data: bytes, clusters: int) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.truncate(32 * clusters)
        _heads.fetch(Downloads(data), "/x", file, clusters, threading.Event())
        file.seek(0)
        return file.read()


def test_digests_go_to_their_clusters_places() -> None:
    one, two, three = (bytes([value]) * 32 for value in (1, 2, 3))
    # the disk has grown by a cluster since
    found = fetch(frame(1, one, two) + frame(5, three) + frame(6), 7)
    assert found == bytes(32) + one + two + bytes(64) + three + bytes(32)


def test_digests_that_end_too_soon_are_an_error() -> None:
    with pytest.raises(http.client.IncompleteRead):
        fetch(frame(0, bytes(32)), 2)


def test_digests_of_another_disk_are_an_error() -> None:
    with pytest.raises(ReceiverError, match="digests of 3 clusters of a disk that has 2"):
        fetch(frame(2, bytes(32)), 2)
