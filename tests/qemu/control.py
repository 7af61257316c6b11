# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plain QMP client: what the modules have done is checked without the modules' own library."""

from __future__ import annotations

import json
import socket
from typing import Any


class Refused(Exception):
    """QEMU answered with an error."""


class Control:
    """A connection to a QMP socket; OSError if there is none."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(60)
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("r")
        self._lines.readline()
        self.cmd("qmp_capabilities")

    def cmd(self, name: str, /, **arguments: Any) -> Any:
        """Run a command and return its result; events are passed over."""
        self._socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        for line in self._lines:
            message = json.loads(line)
            if "error" in message:
                raise Refused(message["error"]["desc"])
            if "return" in message:
                return message["return"]
        raise ConnectionError("QEMU hung up")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()
