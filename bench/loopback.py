# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver and one VM on this machine's loopback: the product's own programs, no hosts between them."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.qmp.legacy import QEMUMonitorProtocol

ROOT = Path(__file__).resolve().parent.parent
HOST = "loopback"
GROUP = "bench"
START_TIMEOUT_S = 30
MODULES = "ansible_collections.livebackup.qemu.plugins.modules"


@dataclass(frozen=True)
class Receiver:
    """A running receiver: its folder holds certificate, token and store."""

    folder: Path
    url: str
    pid: int = 0

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def options(self) -> dict[str, Any]:
        """The options by which every module reaches it."""
        return {
            "receiver_url": self.url,
            "receiver_ca_path": str(self.folder / "cert.pem"),
            "receiver_token_path": str(self.folder / "token"),
        }

    def session(self, session: str) -> dict[str, Any]:
        """A session as the API shows it."""
        trust = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
        token = (self.folder / "token").read_text().strip()
        request = urllib.request.Request(
            f"{self.url}/api/v1/sessions/{session}", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, context=trust) as answer:
            shown: dict[str, Any] = json.load(answer)
        return shown


@contextmanager
def receiver(folder: Path) -> Iterator[Receiver]:
    """Serve in the body; its files stay in `folder`."""
    port = _free_port()
    config = _configure(folder, port)
    command = [sys.executable, "-m", "livebackup_receiver"]
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen([*command, "serve", "--config", config], stdout=log, stderr=log)
    try:
        running = Receiver(folder, f"https://127.0.0.1:{port}", process.pid)
        _wait_until_it_answers(running, process)
        made = subprocess.run(
            [*command, "token", "create", "--name=bench", "--role=backup", "--json", "--config", config],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        (folder / "token").write_text(json.loads(made.stdout)["token"])
        yield running
    finally:
        process.terminate()
        process.wait()


def _configure(folder: Path, port: int) -> Path:
    (folder / "store").mkdir()
    subject = ["-subj", "/CN=livebackup bench", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        check=True, capture_output=True,
    )  # fmt: skip
    config = folder / "config.toml"
    config.write_text(
        f'store = "{folder}/store"\n'
        f'listen_host = "127.0.0.1"\nlisten_port = {port}\nnbd_listen = "127.0.0.1"\n'
        f'tls_certificate = "{folder}/cert.pem"\ntls_key = "{folder}/key.pem"\n'
    )
    return config


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_it_answers(running: Receiver, process: subprocess.Popen[bytes]) -> None:
    trust = ssl.create_default_context(cafile=str(running.folder / "cert.pem"))
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{running.url}/api/v1/health", context=trust, timeout=5):
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise RuntimeError(f"the receiver did not start: {(running.folder / 'receiver.log').read_text()}")


@dataclass(frozen=True)
class Machine:
    """A running QEMU with one disk and no guest: its firmware idles, we write to the disk by QMP."""

    name: str
    disk: Path
    product_socket: Path
    monitor: QEMUMonitorProtocol

    def write(self, offset: int, size: int, pattern: int) -> None:
        """Fill a range of the running disk, as the guest would."""
        command = f'qemu-io disk-a "write -q -P {pattern} {offset} {size}"'
        if complaint := self.monitor.cmd("human-monitor-command", **{"command-line": command}):
            raise RuntimeError(f"writing to the disk failed: {complaint}")


@contextmanager
def machine(folder: Path, disk: Path, name: str = "bench") -> Iterator[Machine]:
    """Run QEMU on `disk` in the body."""
    product, ours = folder / f"{name}-vm.qmp", folder / f"{name}-bench.qmp"
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-name", name, "-accel", "tcg", "-machine", "q35", "-m", "64",
         "-nodefaults", "-display", "none",
         "-qmp", f"unix:{product},server=on,wait=off", "-qmp", f"unix:{ours},server=on,wait=off",
         "-blockdev", f"driver=file,node-name=file-a,filename={disk}",
         "-blockdev", "driver=qcow2,node-name=disk-a,file=file-a,discard=unmap",
         "-device", "virtio-blk-pci,id=vd-a,drive=disk-a,share-rw=on"],
    )  # fmt: skip
    monitor = QEMUMonitorProtocol(str(ours))
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ours.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        monitor.connect(negotiate=True)
        yield Machine(name, disk, product, monitor)
    finally:
        monitor.close()
        process.terminate()
        process.wait()


def module(name: str, **options: Any) -> dict[str, Any]:
    """Run a module of the collection as Ansible does on a host; gives its result, raises if it failed."""
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": options})
    environment = os.environ | {"PYTHONPATH": str(ROOT / "build/collections")}
    done = subprocess.run(
        [sys.executable, "-m", f"{MODULES}.{name}"],
        input=arguments,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"failed": True, "msg": done.stderr}
    if result.get("failed"):
        raise RuntimeError(f"module {name} failed: {result['msg']}")
    return result


def back_up(receiver: Receiver, machine: Machine, scratch: Path) -> dict[str, Any]:
    """One session over the machine, from open to commit; gives the session as the API shows it."""
    opened = module("session", group=GROUP, hosts=[HOST], **receiver.options)
    session = opened["session"]["id"]
    module(
        "backup", session=session, host=HOST, qmp_sockets=[str(machine.product_socket)],
        scratch_dir=str(scratch), **receiver.options,
    )  # fmt: skip
    return receiver.session(session)


def track(machine: Machine, state: str) -> None:
    """Begin or end tracking; ending it makes the next backup a full one."""
    module("tracking", vms=[machine.name], state=state, qmp_sockets=[str(machine.product_socket)])
