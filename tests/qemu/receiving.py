# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real receiver process and a plain client of its API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import free_port, wait_for

# The product's limit is 30 seconds.
SILENCE_S = 8.0
_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=receiver "
    "-addext subjectAltName="
)
NBD_PORTS = 40
_COMMAND = (sys.executable, "-m", "livebackup_receiver")
_ROLES = ("backup", "read", "restore", "manage")
# `livebackup-receiver token create` for each, in one process: most of what one takes is its start.
_MAKE_TOKENS = """
import sys
from livebackup_receiver.cli import app
for role in sys.argv[2:]:
    words = ["token", "create", "--name", role, "--role", role, "--config", sys.argv[1]]
    app(words, standalone_mode=False)
"""


@dataclass
class ReceiverProcess:
    """Starts with the block and ends with it."""

    directory: Path
    port: int = 0
    group: str = "nightly"
    tokens: dict[str, str] = field(default_factory=dict)
    # beside what every test has
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ("127.0.0.1",)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ReceiverProcess:
        self._write_config()
        made = self._run([sys.executable, "-c", _MAKE_TOKENS, str(self._config), *_ROLES])
        self.tokens = dict(zip(_ROLES, made.split(), strict=True))
        self.start()
        return self

    def start(self, hang_s: float = 30.0) -> None:
        """Serve; returns when it answers. AssertionError if it ends, or does not answer for so long."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *_COMMAND, "serve", "--config", str(self._config)],
                stdout=log,
                stderr=log,
                env=_environment() | self.environment,
            )
        wait_for(self._healthy, "the receiver", hang_s)

    def kill(self) -> None:
        """SIGKILL it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def wait_dead(self, seconds: float) -> None:
        """Wait until it has ended, or for so long."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)

    def __exit__(self, *exception: object) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"https://{self.host}:{self.port}"

    @property
    def host(self) -> str:
        """Where it listens."""
        return "127.0.0.1"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before the command that serves."""
        return ()

    @property
    def store(self) -> Path:
        """Its store."""
        return self.directory / "store"

    def options(self, role: str = "backup") -> dict[str, Any]:
        """The modules' options for this receiver."""
        return {
            "receiver_url": self.url,
            "receiver_token": self.tokens[role],
            "receiver_ca_path": str(self.directory / "certificate.pem"),
        }

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        role: str = "backup",
        timeout: float = 60.0,
    ) -> Any:
        """One request; the answer's body, also of an error."""
        context = ssl.create_default_context(cafile=str(self.directory / "certificate.pem"))
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)
        try:
            headers = {"Authorization": f"Bearer {self.tokens[role]}", "Content-Type": "application/json"}
            connection.request(
                method, f"/api/v1{path}", json.dumps(body) if body is not None else None, headers
            )
            return json.loads(connection.getresponse().read() or b"null")
        finally:
            connection.close()

    def open(self, *, hosts: tuple[str, ...] = ("hv1",), **changes: Any) -> str:
        """Open a session and return its id."""
        body: dict[str, Any] = {
            "group": self.group,
            "policy": "all",
            "consistency": "crash",
            "hosts": list(hosts),
        }
        body |= {"join_timeout_s": 30, "stop_budget_s": 10.0, **changes}
        opened = self.call("POST", "/sessions", body)
        assert "id" in opened, opened
        return str(opened["id"])

    def session(self, session: str) -> dict[str, Any]:
        """A session as it is."""
        found: dict[str, Any] = self.call("GET", f"/sessions/{session}", role="read")
        return found

    def abort(self, session: str) -> None:
        """Abort a session."""
        self.call("POST", f"/sessions/{session}/abort", {"reason": "the test wants it"})

    def restore(self, point: str, vm: str, directory: Path) -> subprocess.CompletedProcess[str]:
        """Run the receiver's command restore for one VM."""
        return self.command("restore", point, "--vm", vm, "--to", str(directory))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the receiver beside it."""
        argv = [*_COMMAND, *arguments, "--config", str(self._config)]
        return subprocess.run(argv, capture_output=True, text=True, env=_environment(), check=False)

    def wait_ended(self, session: str) -> dict[str, Any]:
        """Wait until a session has ended and return it."""

        def ended() -> dict[str, Any] | None:
            record = self.session(session)
            return record if record["state"] in ("aborted", "committed") else None

        found: dict[str, Any] = wait_for(ended, f"the end of session {session}")
        return found

    def wait_participant(self, session: str, *states: str, host: str = "hv1") -> None:
        """Wait until a participant has reached one of these states."""

        def reached() -> bool:
            record = self.session(session)
            assert record["state"] not in ("aborted", "committed") or "finished" in states, record["reason"]
            return any(each["host"] == host and each["state"] in states for each in record["participants"])

        wait_for(reached, f"{host} to be {states}")

    def layer(self, vm: str, disk: str, point: str) -> Path:
        """The file of a layer."""
        return self.store / "vms" / vm / disk / f"{point}.qcow2"

    @property
    def newest_daemon(self) -> int:
        """Process id of the storage daemon of a session that has just begun.

        There may be others: of exports whose reader was killed, which nobody has ended yet.
        """
        return self.daemons()[-1]

    def daemons(self) -> list[int]:
        """Process ids of its storage daemons, the newest last."""
        assert self.process is not None
        output = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "qemu-storage-daemon"],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(line) for line in output.stdout.split()]

    @property
    def _config(self) -> Path:
        return self.directory / "receiver.toml"

    @property
    def _log(self) -> Path:
        return self.directory / "receiver.log"

    def _write_config(self) -> None:
        self.port = free_port()
        first = 20000 + os.getpid() % 20000
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        names = ",".join(f"IP:{address}" for address in self.addresses)
        self._run([*f"{_CERTIFICATE}{names}".split(), "-keyout", str(key), "-out", str(certificate)])
        config = {"store": str(self.store), "listen_host": self.host, "listen_port": self.port}
        config |= {"tls_certificate": str(certificate), "tls_key": str(key), "nbd_listen": self.host}
        config |= {"nbd_ports": f"{first}-{first + NBD_PORTS}", "silence_s": SILENCE_S, "min_free_bytes": 0}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in (config | self.settings).items()]
        self._config.write_text("".join(lines))
        self.store.mkdir(exist_ok=True)

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()
        try:
            return bool(self.call("GET", "/health", timeout=5)["version"])
        except OSError:
            return False

    def _run(self, argv: list[str]) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, env=_environment(), check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass
class Peer:
    """Another host of a session, played by the test: it does nothing but say its steps."""

    receiver: ReceiverProcess
    session: str
    vm: str
    host: str = "hv2"

    def say(self, step: str) -> str:
        """Report a step and return the order."""
        body = {"step": step, "facts": self._facts(step), "wait_s": 5}
        answer = self.receiver.call("POST", f"/sessions/{self.session}/participants/{self.host}/steps", body)
        assert "order" in answer, answer
        return str(answer["order"])

    def say_all(self, *steps: str) -> None:
        """Report several steps, one after the other."""
        for step in steps:
            self.say(step)

    def _facts(self, step: str) -> dict[str, Any]:
        size = 1 << 20
        disk = {"disk": "vd-a", "node": "disk-a", "format": "qcow2", "virtual_size": size, "tracked": True}
        disk |= {"persistent": True, "granularity": 65536, "bitmaps": []}
        vm = {"vm": self.vm, "running": True, "agent": "absent", "qemu_version": "7.2.22", "disks": [disk]}
        cut = {"disk": "vd-a", "dirty_bytes": size, "virtual_size": size}
        facts: dict[str, dict[str, Any]] = {
            "joined": {"vms": [vm | {"capabilities": ["copy-before-write", "snapshot-access"]}]},
            "stopped": {"vms": [{"vm": self.vm, "consistency": "crash"}]},
            "cut": {"vms": [{"vm": self.vm, "pause_ms": 1.0, "consistency": "crash", "disks": [cut]}]},
            "transferred": {"disks": [{"vm": self.vm, "disk": "vd-a", "sent_bytes": 0}]},
            "failed": {"reason": "the test wants it"},
        }
        return facts.get(step, {})


def _environment() -> dict[str, str]:
    # the receiver refuses variables with its prefix that it does not know
    return {name: value for name, value in os.environ.items() if not name.startswith("LIVEBACKUP_")}
