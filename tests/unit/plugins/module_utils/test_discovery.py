# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a QEMU's answers to a VM, and from sockets to the VMs asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _discovery, _graph
from ansible_collections.livebackup.qemu.plugins.module_utils._discovery import Discovery
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    OptionError,
    SocketBusy,
    VmNotRunning,
    VmUnknown,
    VmUnsupported,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._qmp import Monitor
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Disk


class Recording:
    """The narrow waist of QMP: commands in, recorded answers out."""

    def __init__(self, replies: dict[str, Any]) -> None:
        self._replies = replies

    async def execute(self, command: str, arguments: dict[str, Any] | None) -> Any:
        words = [str(value) for value in (arguments or {}).values() if value is not True]
        return self._replies[" ".join([command, *words])]


def monitor(replies: dict[str, Any], name: str = "db") -> Monitor:
    found = Monitor(Recording(replies), f"/run/qemu/{name}.qmp", (0, 0))
    found.vm = name
    return found


@pytest.fixture
def disks(qemu_replies: dict[str, Any]) -> dict[str, Disk]:
    edges = _graph.edges_of(qemu_replies["x-debug-query-block-graph"])
    blocks, nodes = qemu_replies["query-block"], qemu_replies["query-named-block-nodes"]
    return {disk.name: disk for disk in _discovery.disks_of("db", blocks, nodes, edges)}


async def test_a_vm_from_real_answers(qemu_replies: dict[str, Any]) -> None:
    vm = await _discovery.inspect(monitor(qemu_replies))
    assert (vm.name, vm.status, vm.running, vm.qemu_version) == ("db", "prelaunch", False, "7.2.22")
    assert vm.agent_path == "/var/lib/vms/db.qga"
    assert vm.roots["/machine/peripheral/vd-a"] == "lb-cbw-0"
    assert "snapshot-access" in vm.capabilities
    assert [disk.name for disk in vm.disks] == ["system", "boot", "vd-a", "vd-b"]


def test_a_disk_is_seen_through_our_filter(disks: dict[str, Disk]) -> None:
    disk = disks["vd-a"]
    assert (disk.node, disk.format, disk.device) == ("disk-a", "qcow2", "/machine/peripheral/vd-a")
    assert {bitmap.name for bitmap in disk.on_top()} == {
        "livebackup:tracked",
        "livebackup:01JD50BR1C8Q2W3E4R5T6Y7V8A",
    }
    assert disk.find("livebackup:01JD50BR1C8Q2W3E4R5T6Y7V8A").dirty_bytes == 1 << 20


def test_only_qcow2_of_version_3_stores_bitmaps(disks: dict[str, Disk]) -> None:
    assert {name: disk.can_persist for name, disk in disks.items()} == {
        "vd-a": True,
        "vd-b": False,
        "system": False,
        "boot": False,
    }


@pytest.mark.parametrize(
    ("qdev", "device", "node", "name"),
    [
        ("/machine/peripheral/vd-a/virtio-backend", "", "disk-a", "vd-a"),
        ("scsi0", "drive0", "#block163", "scsi0"),
        ("/machine/peripheral-anon/device[0]/virtio-backend", "drive0", "#block163", "drive0"),
        ("/machine/peripheral-anon/device[0]/virtio-backend", "", "libvirt-1-format", "libvirt-1-format"),
        ("/machine/peripheral-anon/device[0]/virtio-backend", "", "#block163", "my_disk"),
    ],
)
def test_names_of_disks(qdev: str, device: str, node: str, name: str) -> None:
    facts = {"node-name": node, "image": {"filename": "/images/my disk.qcow2"}}
    assert _discovery.disk_name({"qdev": qdev, "device": device}, facts) == name


def test_two_disks_of_one_name_are_refused() -> None:
    image = {"filename": "/images/disk.raw", "virtual-size": 1}
    nodes = [{"node-name": f"#block{index}", "drv": "raw", "ro": False, "image": image} for index in range(2)]
    blocks = [
        {
            "qdev": f"/machine/peripheral-anon/device[{index}]",
            "device": "",
            "removable": False,
            "inserted": node,
        }
        for index, node in enumerate(nodes)
    ]
    with pytest.raises(VmUnsupported, match="two disks would both be called disk"):
        _discovery.disks_of("db", blocks, nodes, ())


def test_patterns_may_match_nothing_but_paths_must_exist(tmp_path: Path) -> None:
    (tmp_path / "b.qmp").touch()
    (tmp_path / "a.qmp").touch()
    pattern, absent = str(tmp_path / "*.qmp"), str(tmp_path / "absent")
    assert _discovery.expand([pattern, absent, str(tmp_path / "*.none")]) == [
        str(tmp_path / "a.qmp"),
        str(tmp_path / "b.qmp"),
        absent,
    ]


def test_all_vms_are_taken_if_none_is_named() -> None:
    found = Discovery({name: monitor({}, name) for name in ("web", "app")})
    assert [each.vm for each in _discovery.select(found, None)] == ["app", "web"]
    assert [each.vm for each in _discovery.select(found, ["web"])] == ["web"]


def test_a_stopped_vm_matters_only_if_it_is_named() -> None:
    stopped = VmNotRunning("stopped", socket="/run/qemu/app.qmp")
    found = Discovery({"web": monitor({}, "web")}, {"/run/qemu/app.qmp": stopped})
    assert [each.vm for each in _discovery.select(found, None)] == ["web"]
    with pytest.raises(VmNotRunning, match=r"^VM app is not running"):
        _discovery.select(found, ["app"])


def test_a_busy_socket_matters_unless_all_named_vms_are_found() -> None:
    found = Discovery({"web": monitor({}, "web")}, {"/run/qemu/app.qmp": SocketBusy("busy")})
    assert [each.vm for each in _discovery.select(found, ["web"])] == ["web"]
    for names in (None, ["app"]):
        with pytest.raises(SocketBusy):
            _discovery.select(found, names)


def test_an_unknown_vm_and_an_ambiguous_one() -> None:
    with pytest.raises(VmUnknown, match="belongs to VM mail"):
        _discovery.select(Discovery({"web": monitor({}, "web")}), ["mail"])
    with pytest.raises(OptionError):
        _discovery.select(Discovery(conflicts=[OptionError("two")]), ["web"])
