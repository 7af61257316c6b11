# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Questions to QEMU's block graph. For internal use of livebackup.qemu only.

The graph is always read anew: libvirt may put an overlay under our filter while a backup runs, so a
remembered node name may be wrong.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _names
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Disk, Vm


def edges_of(graph: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(parent, edge, child) by name from ``x-debug-query-block-graph``."""
    names = {node["id"]: node["name"] for node in graph["nodes"]}
    return tuple((names[edge["parent"]], edge["name"], names[edge["child"]]) for edge in graph["edges"])


def job_nodes_of(graph: dict[str, Any]) -> frozenset[str]:
    """Ids of the jobs that hold nodes, from ``x-debug-query-block-graph``."""
    return frozenset(node["name"] for node in graph["nodes"] if node["type"] == "block-job")


def child(edges: tuple[tuple[str, str, str], ...], parent: str, name: str) -> str | None:
    """The node at this edge of ``parent``."""
    return next((below for above, edge, below in edges if (above, edge) == (parent, name)), None)


def below_our_filters(edges: tuple[tuple[str, str, str], ...], node: str) -> str:
    """The first node under ``node`` that is not a filter of ours: copy-before-write, or that of a move."""
    while _names.node_kind(node) == "cbw" or _names.is_moving(node):
        node = child(edges, node, "file") or ""
    return node


def backing_chain(edges: tuple[tuple[str, str, str], ...], node: str) -> tuple[str, ...]:
    """The backing nodes of ``node``, nearest first."""
    below = child(edges, node, "backing")
    return () if below is None else (below, *backing_chain(edges, below))


def growth_unit(node: dict[str, Any], file: dict[str, Any] | None) -> int | None:
    """Of what the size must be a multiple so that the new area of the disk reads as zeros, should it grow.

    A qcow2 image that was made smaller may keep old data up to the end of its last cluster. None for a block
    device, which shows what was there before.
    """
    image = node["image"]
    if node["drv"] == "qcow2":
        data = image.get("format-specific", {}).get("data", {})
        return None if data.get("data-file-raw") else image["cluster-size"]
    return 1 if node["drv"] == "raw" and file is not None and file["drv"] == "file" else None


def devices_on(vm: Vm, node: str) -> list[str]:
    """Paths of the devices that read and write through ``node``."""
    return [device for device, root in vm.roots.items() if root == node]


def foreign_jobs(vm: Vm, disk: Disk) -> list[str]:
    """Ids of jobs that are not ours and hold a node of the disk."""
    nodes = {disk.node, *disk.chain}
    return sorted(
        {
            above
            for above, dummy, below in vm.edges
            if above in vm.job_nodes and below in nodes and not above.startswith(_names.PREFIX)
        }
    )
