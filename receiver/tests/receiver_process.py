# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver in a process of its own, which a test may kill."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from serving import client_for, make_token
from waiting import until

from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.config import Config
from livebackup_receiver.model import Role
from livebackup_receiver.subprocesses import run

OPTIONS = (
    "store",
    "listen_host",
    "listen_port",
    "tls_certificate",
    "tls_key",
    "nbd_listen",
    "nbd_ports",
    "min_free_bytes",
)


@dataclass
class ReceiverProcess:
    """A running `livebackup-receiver serve`."""

    process: asyncio.subprocess.Process
    url: str
    config: Config

    async def end(self, number: signal.Signals) -> int:
        """Send a signal; the return code."""
        self.process.send_signal(number)
        return await self.process.wait()

    @asynccontextmanager
    async def client(self, role: Role = Role.BACKUP) -> AsyncIterator[httpx.AsyncClient]:
        """A client with a fresh token; made beside the running receiver, as the command line does."""
        with open_catalog(self.config.database_url) as catalog:
            secret = make_token(catalog, role)
        async with client_for(self.url, self.config.tls_certificate, secret) as client:
            yield client

    async def daemons(self) -> list[int]:
        """The storage daemons it runs."""
        argv = ["ps", "--ppid", str(self.process.pid), "-o", "pid=,comm="]
        children = await run(argv, timeout_s=10, accept=(0, 1))
        found = (line.split() for line in children.stdout.splitlines())
        return [int(pid) for pid, name in found if name.startswith("qemu-storage")]


def on_free_port(config: Config) -> Config:
    """On a port that a restarted receiver can have again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return config.model_copy(update={"listen_port": listener.getsockname()[1]})


def write_config(config: Config, path: Path) -> Path:
    """The configuration as the file that an administrator would write."""
    values = config.model_dump(mode="json", include=set(OPTIONS))
    lines = (f"{name} = {value if isinstance(value, int) else repr(value)}" for name, value in values.items())
    path.write_text("\n".join(lines) + "\n")
    return path


@asynccontextmanager
async def receiver_process(config: Config) -> AsyncIterator[ReceiverProcess]:
    """Start a receiver and wait until it is ready; killed when the block ends."""
    path = write_config(config, config.store.parent / "receiver.toml")
    argv = [sys.executable, "-m", "livebackup_receiver", "serve", "--config", str(path)]
    log = config.store.parent / "receiver.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(*argv, stderr=stderr)
    receiver = ReceiverProcess(process, f"https://127.0.0.1:{config.listen_port}", config)
    try:
        await until(lambda: _ready(receiver, log))
        yield receiver
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ready(receiver: ReceiverProcess, log: Path) -> bool:
    assert receiver.process.returncode is None, log.read_text()
    return "ready on" in log.read_text()
