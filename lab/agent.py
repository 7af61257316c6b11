# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the QEMU guest agent, for the tests' own agent of a guest."""

from __future__ import annotations

import base64
import json
import secrets
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.errors import CommandRefused, NotRunning
from lab.waiting import until


class Agent:
    """One connection to the agent of `vm` at the socket `path`; a context manager."""

    def __init__(self, vm: str, path: Path, timeout: float = 10) -> None:
        self.vm = vm
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            self._synchronize()
        except OSError as error:
            self._socket.close()
            raise NotRunning(f"The guest agent of {vm}", f"see the guest's console file ({error})") from None

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """What `command`, in the words of QGA's schema, returns; CommandRefused if it fails."""
        self._send(command, arguments)
        answer = json.loads(self._read())
        if "error" in answer:
            raise CommandRefused(f"The guest agent of {self.vm}", command, answer["error"]["desc"])
        return answer["return"]

    def run(self, argv: Sequence[str]) -> str:
        """The standard output of `argv` run in the guest (guest-exec); CommandRefused unless it succeeds."""
        started = self.execute("guest-exec", path=argv[0], arg=list(argv[1:]), **{"capture-output": True})
        status = until(lambda: self._ended(started["pid"]), f"{argv[0]} ended in {self.vm}")
        text = {key: base64.b64decode(status.get(key, "")).decode() for key in ("out-data", "err-data")}
        if status.get("exitcode") != 0:
            reason = text["err-data"].strip() or "it failed"
            raise CommandRefused(f"The guest of {self.vm}", shlex.join(argv), reason)
        return text["out-data"]

    def _ended(self, pid: int) -> dict[str, Any] | None:
        status: dict[str, Any] = self.execute("guest-exec-status", pid=pid)
        return status if status["exited"] else None

    def _synchronize(self) -> None:
        """Skip what an earlier client left unread."""
        token = secrets.randbits(31)
        self._send("guest-sync", {"id": token})
        while json.loads(self._read()).get("return") != token:
            pass

    def _send(self, command: str, arguments: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def _read(self) -> bytes:
        line = self._lines.readline().lstrip(b"\xff")
        if not line:
            raise NotRunning(f"The guest agent of {self.vm}", "see the guest's console file")
        return line
