# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers from QEMU's block graph."""

from __future__ import annotations

from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _graph

SNAPSHOT_UNDER_FILTER = (
    ("/machine/peripheral/vd-a/virtio-backend", "root", "lb-cbw-0"),
    ("lb-cbw-0", "file", "overlay"),
    ("lb-cbw-0", "target", "lb-tmp-0"),
    ("overlay", "backing", "disk-a"),
    ("disk-a", "backing", "base"),
)


def test_a_real_graph(qemu_replies: dict[str, Any]) -> None:
    edges = _graph.edges_of(qemu_replies["x-debug-query-block-graph"])
    assert _graph.child(edges, "lb-cbw-0", "file") == "disk-a"
    assert _graph.child(edges, "lb-cbw-0", "target") == "lb-tmp-0"
    assert _graph.child(edges, "disk-a", "backing") is None


def test_the_current_child_is_found_not_the_remembered_one() -> None:
    assert _graph.below_our_filters(SNAPSHOT_UNDER_FILTER, "lb-cbw-0") == "overlay"
    assert _graph.below_our_filters(SNAPSHOT_UNDER_FILTER, "disk-a") == "disk-a"


def test_the_filter_of_a_move_is_not_the_disk() -> None:
    moving = (("livebackup-moving-0", "file", "disk-a"), ("disk-a", "backing", "nbd"))
    assert _graph.below_our_filters(moving, "livebackup-moving-0") == "disk-a"


def test_the_backing_chain() -> None:
    assert _graph.backing_chain(SNAPSHOT_UNDER_FILTER, "overlay") == ("disk-a", "base")


def test_devices_of_a_node(make_vm: Any) -> None:
    vm = make_vm(roots={"/machine/peripheral/vd-a": "lb-cbw-0", "/machine/peripheral/vd-b": "disk-b"})
    assert _graph.devices_on(vm, "lb-cbw-0") == ["/machine/peripheral/vd-a"]


def test_only_jobs_of_others_on_this_disk_are_foreign(make_vm: Any, make_disk: Any) -> None:
    edges = (("mirror", "source", "disk-a"), ("lb-job-0", "source", "disk-a"), ("stream", "root", "disk-b"))
    disk = make_disk()
    vm = make_vm(disk, edges=edges, job_nodes=frozenset({"mirror", "lb-job-0", "stream"}))
    assert _graph.foreign_jobs(vm, disk) == ["mirror"]


def test_a_job_on_a_backing_file_counts(make_vm: Any, make_disk: Any) -> None:
    disk = make_disk(chain=("base",))
    vm = make_vm(disk, edges=(("commit", "base", "base"),), job_nodes=frozenset({"commit"}))
    assert _graph.foreign_jobs(vm, disk) == ["commit"]
