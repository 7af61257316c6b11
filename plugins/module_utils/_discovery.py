# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From QMP sockets to VMs. For internal use of livebackup.qemu only."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _capabilities, _graph, _pause, _qmp
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    CommandRefused,
    MonitorError,
    OptionError,
    VmNotRunning,
    VmUnknown,
    VmUnsupported,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap, Disk, Vm

AGENT_PORT = "org.qemu.guest_agent.0"
_CHARDEV_PATH = re.compile(r"(?:disconnected:)?unix:(?P<path>.+?)(?:,server=on.*)?")
_PERIPHERALS = ("/machine/peripheral", "/machine/peripheral-anon")


@dataclass
class Discovery:
    """The connected monitors by VM name, and the sockets that gave none with the error of each.

    ``conflicts`` are errors about VMs of the same name.
    """

    monitors: dict[str, Monitor] = field(default_factory=dict)
    unreachable: dict[str, MonitorError] = field(default_factory=dict)
    conflicts: list[OptionError] = field(default_factory=list)

    async def keep_only(self, wanted: list[Monitor]) -> None:
        """Hang up on all others, whose sockets somebody else may want while we work."""
        others = [monitor for monitor in self.monitors.values() if monitor not in wanted]
        await asyncio.gather(*(monitor.close() for monitor in others))


@contextlib.asynccontextmanager
async def discovered(patterns: list[str], timeout: float) -> AsyncIterator[Discovery]:
    """Connect to every socket of the patterns and hang up at the end.

    Sockets that cannot be used are reported, not raised.
    """
    async with contextlib.AsyncExitStack() as stack:
        discovery = Discovery()
        sockets = expand(patterns)
        results = await asyncio.gather(
            *(_open(socket, timeout) for socket in sockets), return_exceptions=True
        )
        for result in results:
            if isinstance(result, Monitor):
                stack.push_async_callback(result.close)
        for socket, result in zip(sockets, results):
            _add(discovery, socket, result)
        yield discovery


def _add(discovery: Discovery, socket: str, result: Monitor | BaseException) -> None:
    if isinstance(result, MonitorError):
        discovery.unreachable[socket] = result
    elif isinstance(result, BaseException):
        raise result
    elif discovery.monitors.setdefault(result.vm, result) is not result:
        other = discovery.monitors[result.vm].socket
        discovery.conflicts.append(
            OptionError(
                f"Two QMP sockets, {other} and {socket}, answer with the VM name {result.vm}; give each "
                "QEMU a -name of its own or narrow qmp_sockets.",
                vm=result.vm,
            )
        )


def expand(patterns: list[str]) -> list[str]:
    """Existing paths of the globs, and literal paths as they are (their absence is an error later)."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        found.update(dict.fromkeys(matches))
    return list(found)


async def _open(socket: str, timeout: float) -> Monitor:
    monitor = await _qmp.connect(socket, timeout)
    try:
        answer = await monitor.execute("query-name", timeout=timeout)
    except MonitorError:
        await monitor.close()
        raise
    monitor.vm = answer.get("name") or os.path.splitext(os.path.basename(socket))[0]
    return monitor


def select(discovery: Discovery, names: list[str] | None) -> list[Monitor]:
    """The monitors of the named VMs, or of all if no names are given.

    Raises OptionError if two VMs have the same name, VmUnknown, VmNotRunning or, if a socket that might
    belong to a wanted VM is busy, its error.
    """
    for conflict in discovery.conflicts:
        raise conflict
    names = list(dict.fromkeys(names or ()))
    missing = [name for name in names if name not in discovery.monitors]
    # A stale socket file of a stopped VM is no reason to fail when nobody asked for that VM.
    hard = [error for error in discovery.unreachable.values() if not isinstance(error, VmNotRunning)]
    if hard and (missing or not names):
        raise hard[0]
    if missing:
        raise _missing(discovery, missing[0])
    return [discovery.monitors[name] for name in names or sorted(discovery.monitors)]


def _missing(discovery: Discovery, name: str) -> Exception:
    stale = next(
        (socket for socket in discovery.unreachable if os.path.splitext(os.path.basename(socket))[0] == name),
        None,
    )
    if stale:
        return VmNotRunning(
            f"VM {name} is not running: nobody listens on {stale}; start the VM.", vm=name, socket=stale
        )
    known = ", ".join(sorted(discovery.monitors)) or "none"
    return VmUnknown(
        f"No QMP socket of this host belongs to VM {name} (found: {known}); start the VM or correct "
        "qmp_sockets.",
        vm=name,
    )


async def inspect(monitor: Monitor) -> Vm:
    """Read everything we need to know of a VM, changing nothing.

    QAPI: query-status, query-version, query-block, query-named-block-nodes, x-debug-query-block-graph,
    query-jobs, query-qmp-schema, query-chardev, qom-list, qom-get. Raises MonitorError.
    """
    status = (await monitor.execute("query-status"))["status"]
    version = (await monitor.execute("query-version"))["qemu"]
    blocks = [block for block in await monitor.execute("query-block") if "inserted" in block]
    nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
    graph = await monitor.execute("x-debug-query-block-graph")
    edges = _graph.edges_of(graph)
    return Vm(
        name=monitor.vm,
        socket=monitor.socket,
        status=status,
        qemu_version=f"{version['major']}.{version['minor']}.{version['micro']}",
        capabilities=await _capabilities_of(monitor),
        disks=disks_of(monitor.vm, blocks, nodes, edges),
        agent_path=await _agent_path(monitor),
        objects=await _pause.objects(monitor),
        nodes=tuple(node["node-name"] for node in nodes),
        jobs=tuple(await monitor.execute("query-jobs")),
        edges=edges,
        job_nodes=_graph.job_nodes_of(graph),
        roots={device_path(block): block["inserted"]["node-name"] for block in blocks if block.get("qdev")},
    )


async def _capabilities_of(monitor: Monitor) -> frozenset[str]:
    # a QEMU process never changes its schema, and it is large
    if not monitor.capabilities:
        schema = await monitor.execute("query-qmp-schema")
        monitor.capabilities = _capabilities.capabilities_of(schema)
    return monitor.capabilities


def disks_of(
    vm: str,
    blocks: list[dict[str, Any]],
    nodes: list[dict[str, Any]],
    edges: tuple[tuple[str, str, str], ...],
) -> tuple[Disk, ...]:
    """The disks among the block devices: no CD-ROM or floppy drives, no firmware flash.

    Raises VmUnsupported if two disks would get the same name.
    """
    by_name = {node["node-name"]: node for node in nodes}
    disks = tuple(_disk(block, by_name, edges) for block in blocks if _is_disk(block))
    names = [disk.name for disk in disks]
    for name in names:
        if names.count(name) > 1:
            raise VmUnsupported(
                f"VM {vm}: two disks would both be called {name}; give their devices an id in the QEMU "
                "command line.",
                vm=vm,
                disk=name,
            )
    return disks


def _is_disk(block: dict[str, Any]) -> bool:
    return bool(block.get("qdev")) and not block["removable"] and "system.flash" not in block["qdev"]


def _disk(block: dict[str, Any], nodes: dict[str, Any], edges: tuple[tuple[str, str, str], ...]) -> Disk:
    top = _graph.below_our_filters(edges, block["inserted"]["node-name"])
    node = nodes.get(top, block["inserted"])
    chain = _graph.backing_chain(edges, top)
    return Disk(
        name=disk_name(block, node),
        node=top,
        format=format_of(node),
        virtual_size=node["image"]["virtual-size"],
        device=device_path(block),
        file=node["image"]["filename"],
        allocated_bytes=None if chain else node["image"].get("actual-size"),
        read_only=node["ro"],
        can_persist=can_persist(node),
        growth_unit=_graph.growth_unit(node, nodes.get(_graph.child(edges, top, "file") or "")),
        chain=chain,
        bitmaps=tuple(bitmap for name in (top, *chain) for bitmap in bitmaps_of(nodes.get(name, {}), name)),
    )


def device_path(block: dict[str, Any]) -> str:
    """QOM path of the device whose ``drive`` property names the block node."""
    path: str = block["qdev"]
    suffix = "/virtio-backend"
    return path[: -len(suffix)] if path.endswith(suffix) else path


def disk_name(block: dict[str, Any], node: dict[str, Any]) -> str:
    """The stable name of a disk: device id, else -drive id, else node name, else stem of the image file."""
    device = re.fullmatch(r"(?:/machine/peripheral/)?(?P<id>[^/]+)(?:/virtio-backend)?", block["qdev"])
    stem = os.path.splitext(os.path.basename(node["image"]["filename"]))[0]
    names = [device and device.group("id"), block.get("device"), node["node-name"]]
    name = next((name for name in names if name and not name.startswith("#")), stem)
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def format_of(node: dict[str, Any]) -> str:
    """The block driver of a node; an encrypted image is not the plain one the guest sees."""
    driver: str = node["drv"]
    return f"{driver}+encryption" if node.get("encrypted") else driver


def can_persist(node: dict[str, Any]) -> bool:
    """Whether the image can store bitmaps: qcow2 of version 3."""
    data = node["image"].get("format-specific", {}).get("data", {})
    return bool(node["drv"] == "qcow2" and data.get("compat") != "0.10")


def bitmaps_of(node: dict[str, Any], name: str) -> list[Bitmap]:
    """The named bitmaps of a node."""
    return [
        Bitmap(
            node=name,
            name=info["name"],
            granularity=info["granularity"],
            dirty_bytes=info["count"],
            persistent=info["persistent"],
            recording=info["recording"],
            inconsistent=info.get("inconsistent", False),
            busy=info["busy"],
            node_size=node["image"]["virtual-size"] if "image" in node else None,
        )
        for info in node.get("dirty-bitmaps", [])
        if "name" in info
    ]


async def _agent_path(monitor: Monitor) -> str | None:
    chardev = await _agent_chardev(monitor)
    for entry in await monitor.execute("query-chardev") if chardev else []:
        match = _CHARDEV_PATH.fullmatch(entry["filename"])
        if entry["label"] == chardev and match:
            return match.group("path")
    return None


async def _agent_chardev(monitor: Monitor) -> str | None:
    for parent in _PERIPHERALS:
        for entry in await monitor.execute("qom-list", {"path": parent}):
            if entry["type"] == "child<virtserialport>":
                path = f"{parent}/{entry['name']}"
                if await _property(monitor, path, "name") == AGENT_PORT:
                    return await _property(monitor, path, "chardev")
    return None


async def _property(monitor: Monitor, path: str, name: str) -> str | None:
    try:
        value: str = await monitor.execute("qom-get", {"path": path, "property": name})
    except CommandRefused:
        return None
    return value
