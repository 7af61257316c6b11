# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tender of an instant restore on a host with systemd: it comes back after a kill and after a reboot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.host import Host
from lab.lab import Lab
from lab.waiting import until

CHECKOUT = Path(__file__).parents[2]
UNIT = "livebackup-instant@.service"
SIZE = 64 << 20
SOCKET = "/run/livebackup/instant/db/nbd.sock"
ACT = """
import asyncio, json, sys
sys.path.insert(0, "/root/collections")
from ansible_collections.livebackup.qemu.plugins.module_utils import _tender
tender = _tender.Tender("db", f"{_tender.STATE_DIR}/db", f"{_tender.RUN_DIR}/db")
if sys.argv[1] == "start":
    _tender.write(tender, json.loads(sys.argv[2]))
    print(asyncio.run(_tender.start(tender)), _tender.looked_after(tender))
else:
    asyncio.run(_tender.stop(tender))
    _tender.forget(tender)
"""


@pytest.fixture
def host() -> Iterator[Host]:
    """A hypervisor without VMs, with the unit and the collection's sources."""
    with Lab.up("instant", hosts=["hv1"], vms=False) as lab:
        host = lab.host("hv1")
        shutil.copy(CHECKOUT / "roles/hypervisor/files" / UNIT, host.path(f"/etc/systemd/system/{UNIT}"))
        package = host.path("/root/collections/ansible_collections/livebackup/qemu/plugins/module_utils")
        shutil.copytree(CHECKOUT / "plugins/module_utils", package)
        host.run(["systemctl", "daemon-reload"])
        yield host


def facts() -> str:
    """A tender's parameters; the receiver is nowhere, so it serves and cannot read."""
    authority = Path("/etc/ssl/certs/ca-certificates.crt").read_text().partition("-----END CERTIFICATE-----")
    known = {"name": "db", "vm": "db", "disks": {"vd-a": SIZE}, "socket": SOCKET, "owner": None}
    known |= {
        "qmp_sockets": [],
        "receiver_url": "https://192.0.2.1:8440",
        "ca": "".join(authority[:2]) + "\n",
    }
    return json.dumps(known | {"lease": "none", "secret": "none", "stall_s": 1.0, "limit_s": 2.0})


def size_served(host: Host) -> int | None:
    """What QEMU is told of the disk."""
    uri = f"nbd+unix:///vd-a?socket={SOCKET}"
    done = host.run(["qemu-img", "info", "--output=json", "-f", "raw", uri], check=False)
    return int(json.loads(done.stdout)["virtual-size"]) if done.returncode == 0 else None


def test_a_tender_comes_back_until_the_restore_ends(host: Host) -> None:
    assert host.run(["python3", "-c", ACT, "start", facts()]).stdout.split() == ["True", "True"]
    assert size_served(host) == SIZE
    first = host.main_pid("livebackup-instant@db.service")
    host.run(["kill", "-KILL", str(first)])
    until(lambda: size_served(host) == SIZE, "the tender was started again", timeout=60)
    assert host.main_pid("livebackup-instant@db.service") != first
    host.kill()
    host.start()
    host.wait()
    until(lambda: size_served(host) == SIZE, "the tender was started after the reboot", timeout=60)
    uri = f"nbd+unix:///vd-a?socket={SOCKET}"
    read = host.run(["qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", uri], check=False)
    assert "Input/output error" in read.stdout + read.stderr
    host.run(["python3", "-c", ACT, "stop"])
    assert size_served(host) is None
    assert not host.path("/var/lib/livebackup/instant/db").exists()
    host.kill()
    host.start()
    host.wait()
    assert host.run(["pgrep", "nbdkit"], check=False).stdout == ""
