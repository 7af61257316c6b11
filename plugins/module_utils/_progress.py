# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a restore is, in a file for whoever looks. For internal use of livebackup.qemu only."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils._copy import Tally

_SECONDS = 1.0


@contextlib.contextmanager
def told(path: str | None, vm: str, tallies: Mapping[str, Tally]) -> Iterator[None]:
    """Write the state of all disks to ``path`` once a second while the block runs; the file goes with it."""
    if path is None:
        yield
        return
    done = threading.Event()

    def tell() -> None:
        while True:
            _write(path, report(vm, tallies))
            if done.wait(_SECONDS):
                return

    thread = threading.Thread(target=tell, name="livebackup-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(OSError):
            os.unlink(path)


def report(vm: str, tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """The state as data and in words. Pure."""
    disks = [
        {
            "disk": name,
            "phase": tally.phase,
            "done_bytes": tally.done_bytes,
            "wanted_bytes": tally.wanted_bytes,
            "fetched_bytes": tally.fetched_bytes,
        }
        for name, tally in tallies.items()
    ]
    return {"vm": vm, "disks": disks, "words": [words(vm, name, tally) for name, tally in tallies.items()]}


def words(vm: str, disk: str, tally: Tally) -> str:
    """One disk in a line for people. Pure."""
    if not tally.wanted_bytes:
        return f"{vm}/{disk}: {tally.phase}"
    percent = 100 * tally.done_bytes // tally.wanted_bytes
    return f"{vm}/{disk}: {tally.phase}, {percent} % of {tally.wanted_bytes / (1 << 20):.0f} MiB"


def _write(path: str, state: dict[str, Any]) -> None:
    # a disk that is full must not end the restore before its time
    with contextlib.suppress(OSError):
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(state, file)
        os.replace(f"{path}.new", path)
