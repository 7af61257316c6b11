# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The VM that reads from a restore point, over QMP. For internal use of livebackup.qemu only.

Part of what nbdkit runs, see ``_tender_plugin``. Its Python may be another than the modules', so it cannot
have ``qemu.qmp``; it needs five commands and no events.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
import threading
import time
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._tender_link import Facts, Link, Vm, say

MONITOR_SECONDS = 3.0
LOOK_SECONDS = 1.0
# how long after its start a tender looks whether its VM paused while there was none
START_SECONDS = 20.0
# QEMU has paused the VM so long after an error at the latest
SETTLE_SECONDS = 3.0
# a VM that cannot be reached for so long is looked for less often
PATIENT_SECONDS = 60.0
SELDOM_SECONDS = 10.0


class Monitor:
    """A QMP socket for a few plain commands. Raises OSError, ValueError."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(MONITOR_SECONDS)
        try:
            self._socket.connect(path)
            self._file = self._socket.makefile("rwb")
            self._file.readline()
            self.ask("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run one command."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        while True:
            line = self._file.readline()
            if not line:
                raise OSError("QEMU has hung up")
            answer = json.loads(line)
            if "error" in answer:
                raise OSError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


class Watch(threading.Thread):
    """Looks at the VM when its disks cannot be read, and lets it go on when they can."""

    def __init__(self, facts: Facts, vm: Vm, links: list[Link]) -> None:
        super().__init__(name="watch", daemon=True)
        self._facts = facts
        self._vm = vm
        self._links = links
        self._born = time.monotonic()
        # when the VM was last seen not to have paused for an error
        self._seen = 0.0
        self._tried = 0.0
        self._known = False

    def run(self) -> None:
        """Look at the VM when there is a reason to."""
        while True:
            time.sleep(LOOK_SECONDS)
            if any(link.outage is not None for link in self._links):
                if not self._known:
                    self._learn()
            else:
                self._known = self._vm.patient = False
                if self._may_have_paused(time.monotonic()):
                    self._resume()

    def _may_have_paused(self, now: float) -> bool:
        """Whether an error was answered, or there was no tender, and the VM has not been seen well since."""
        failed = self._vm.failed_at
        since = self._born if failed is None else failed
        if since + SETTLE_SECONDS <= self._seen or (failed is None and now - since > START_SECONDS):
            return False
        return now - since < PATIENT_SECONDS or now - self._tried > SELDOM_SECONDS

    def _resume(self) -> None:
        self._tried = time.monotonic()
        monitor = self._monitor()
        if monitor is None:
            return
        with contextlib.closing(monitor), contextlib.suppress(OSError, ValueError):
            if monitor.ask("query-status")["status"] == "io-error":
                monitor.ask("cont")
                say(f"VM {self._facts['name']} goes on")
            else:
                self._seen = time.monotonic()

    def _learn(self) -> None:
        monitor = self._monitor()
        if monitor is None:
            return
        with contextlib.closing(monitor), contextlib.suppress(OSError, ValueError, KeyError):
            self._vm.patient = self._is_delicate(monitor)
            self._known = True

    def _is_delicate(self, monitor: Monitor) -> bool:
        for block in monitor.ask("query-block"):
            if block.get("qdev") and self._facts["socket"] in json.dumps(block.get("inserted", {})):
                device = block["qdev"].replace("/virtio-backend", "")
                if monitor.ask("qom-get", path=device, property="rerror") != "stop":
                    say(f"VM {self._facts['name']}: {device} has no rerror=stop; its reads wait")
                    return True
        return False

    def _monitor(self) -> Monitor | None:
        for pattern in self._facts["qmp_sockets"]:
            for path in sorted(glob.glob(pattern)):
                with contextlib.suppress(OSError, ValueError):
                    monitor = Monitor(path)
                    stem = os.path.splitext(os.path.basename(path))[0]
                    if (monitor.ask("query-name").get("name") or stem) == self._facts["name"]:
                        return monitor
                    monitor.close()
        return None
