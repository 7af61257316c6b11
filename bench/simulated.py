# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisors without QEMU: each obeys the receiver's orders over its real API and sends some data."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.loopback import Receiver

DISK_BYTES = 10 << 30
DATA_BYTES = 64 << 10
SENT_BYTES = 64 << 10
ANSWER_TIMEOUT_S = 90
# Writes to every export named on standard input and flushes it, as QEMU does when it closes one. The
# distribution's Python has libnbd.
SEND = """
import json, sys
data = bytes([7]) * 65536
for uri in json.load(sys.stdin):
    client = nbd.NBD()
    client.set_uri_allow_local_file(True)
    client.connect_uri(uri)
    client.pwrite(data, 0)
    client.flush()
    client.shutdown()
"""
Body = dict[str, Any]


@dataclass
class Host:
    """One hypervisor; ``newest`` is the point whose bitmap its disks carry."""

    name: str
    vms: list[str]
    receiver: Receiver
    newest: str | None = None
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    def take_part(self, session: str) -> str:
        """From joining to leaving; the last order that was no wait."""
        try:
            return self._obey(session)
        finally:
            if self._connection:
                self._connection.close()
            self._connection = None

    def _obey(self, session: str) -> str:
        step, facts = "joined", {"vms": [self._report(vm) for vm in self.vms]}
        plan: Body = {}
        last = ""
        while True:
            answer = self._step(session, step, facts)
            order = answer["order"]
            plan = answer.get("plan") or plan
            if order == "leave":
                return last
            if order != "wait":
                last = order
                step, facts = self._carry_out(session, order, plan)

    def _carry_out(self, session: str, order: str, plan: Body) -> tuple[str, Body]:
        if order == "transfer":
            self._send(plan)
        if order == "finish":
            self.newest = session
        answers: dict[str, tuple[str, Body]] = {
            "prepare": ("prepared", {}),
            "stop": ("stopped", {"vms": [{"vm": vm, "consistency": "crash"} for vm in self.vms]}),
            "cut": ("cut", {"vms": [_cut(vm) for vm in self.vms]}),
            "transfer": ("transferred", {"disks": [_sent(vm) for vm in self.vms]}),
            "finish": ("finished", {"removed": []}),
            "abort": ("finished", {"removed": []}),
        }
        return answers[order]

    def _step(self, session: str, step: str, facts: Body) -> Body:
        return self.post(
            f"/sessions/{session}/participants/{self.name}/steps", {"step": step, "facts": facts}
        )

    def post(self, path: str, body: Body) -> Body:
        """POST below /api/v1; raises RuntimeError if it is refused."""
        if self._connection is None:
            self._connection = _connect(self.receiver)
        headers = {"Authorization": f"Bearer {_token(self.receiver)}", "Content-Type": "application/json"}
        self._connection.request("POST", f"/api/v1{path}", json.dumps(body), headers)
        response = self._connection.getresponse()
        answer: Body = json.loads(response.read())
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{self.name}: {answer['error']['message']}")
        return answer

    def _report(self, vm: str) -> Body:
        bitmaps = [{"point": self.newest, "healthy": True, "dirty_bytes": DATA_BYTES}] if self.newest else []
        disk = {
            "disk": "vd-a",
            "node": "disk-a",
            "format": "qcow2",
            "virtual_size": DISK_BYTES,
            "tracked": True,
            "persistent": True,
            "granularity": 65536,
            "allocated_bytes": DATA_BYTES,
            "bitmaps": bitmaps,
        }
        return {
            "vm": vm,
            "running": True,
            "agent": "absent",
            "qemu_version": "7.2.22",
            "capabilities": ["copy-before-write", "snapshot-access"],
            "disks": [disk],
        }

    def _send(self, plan: Body) -> None:
        transport = plan["transport"]
        with tempfile.TemporaryDirectory() as name:
            keys = Path(name) / "keys.psk"
            keys.write_text(f"{transport['psk_username']}:{transport['psk_key']}\n")
            base = f"nbds://{transport['psk_username']}@127.0.0.1:{transport['port']}"
            uris = [
                f"{base}/{disk['export']}?tls-psk-file={keys}" for vm in plan["vms"] for disk in vm["disks"]
            ]
            environment = {"PATH": "/usr/bin:/bin"}
            argv = ["nbdsh", "-n", "-c", SEND]
            subprocess.run(argv, input=json.dumps(uris), text=True, env=environment, check=True)


def make_hosts(receiver: Receiver, *, hosts: int, vms: int) -> list[Host]:
    """Hosts that share so many VMs evenly."""
    names = [f"vm{number:03}" for number in range(vms)]
    return [Host(f"hv{number:02}", names[number::hosts], receiver) for number in range(hosts)]


def back_up(hosts: list[Host], group: str) -> str:
    """One session with all hosts, each in a thread; its id. Raises RuntimeError if it is not committed."""
    body = {"group": group, "hosts": [host.name for host in hosts], "stop_budget_s": 30}
    session = str(hosts[0].post("/sessions", body)["id"])
    with ThreadPoolExecutor(len(hosts)) as pool:
        orders = set(pool.map(lambda host: host.take_part(session), hosts))
    if orders != {"finish"}:
        raise RuntimeError(f"session {session} ended with the orders {sorted(orders)}")
    return session


def _connect(receiver: Receiver) -> http.client.HTTPSConnection:
    address = urlsplit(receiver.url)
    trust = ssl.create_default_context(cafile=str(receiver.folder / "cert.pem"))
    return http.client.HTTPSConnection(
        address.hostname or "", address.port, timeout=ANSWER_TIMEOUT_S, context=trust
    )


def _token(receiver: Receiver) -> str:
    return (receiver.folder / "token").read_text().strip()


def _cut(vm: str) -> Body:
    disk = {"disk": "vd-a", "dirty_bytes": DATA_BYTES, "virtual_size": DISK_BYTES}
    return {"vm": vm, "pause_ms": 20.0, "consistency": "crash", "disks": [disk]}


def _sent(vm: str) -> Body:
    return {"vm": vm, "disk": "vd-a", "sent_bytes": SENT_BYTES}
