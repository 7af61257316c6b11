# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points with disks that boot, for rehearsals: see rehearsal/guest.S for what their guest does."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encrypted_layers import write_io
from sample_records import NOW
from sample_store import SampleStore, Write, run

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.config import Config
from livebackup_receiver.model import Point
from livebackup_receiver.recovery.declared import read_plan
from livebackup_receiver.recovery_plans import declare_plan
from livebackup_receiver.store.paths import Store

SOURCE = Path(__file__).parent / "rehearsal" / "guest.S"
DISK = "vd-a"
SECTOR = 512


@functools.cache
def boot_sector() -> bytes:
    """Assemble guest.S."""
    with tempfile.TemporaryDirectory() as directory:
        objects, image = Path(directory, "guest.o"), Path(directory, "guest.bin")
        run("as", "--32", str(SOURCE), "-o", str(objects))
        run("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", str(image), str(objects))
        return image.read_bytes()


def write_guest(layer: Path, said: str | None, writes: int = 1) -> None:
    """Have a layer boot a guest that says this and writes to so many blocks; None: nothing to boot."""
    content = bytes(2 * SECTOR)
    if said is not None:
        words = said.encode().ljust(SECTOR - 2, b"\0") + writes.to_bytes(2, "little")
        content = boot_sector() + words
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        write_io(layer, f"write -q -s {file.name} 0 {len(content)}")


def add_point(store: SampleStore, said: Mapping[str, str | None], **facts: Any) -> Point:
    """A point of VMs with a disk each, which say something when they have booted."""
    size = facts.pop("size", 4 << 20)
    sizes = {(vm, DISK): size for vm in said}
    point = store.add({(vm, DISK): [Write(3 << 20, 65536, 7)] for vm in said}, sizes=sizes)
    for vm, words in said.items():
        write_guest(store.layer(point, vm, DISK), words, **facts)
    return point


def member(vm: str, **facts: Any) -> dict[str, Any]:
    """A VM of a plan that is ready when it says that it is up."""
    ready = {"console": "is up", "timeout_s": 120}
    return {"vm": vm, "boot": {"memory_mib": 16}, "ready": ready, **facts}


def waiting(vm: str, timeout_s: float = 120) -> dict[str, Any]:
    """A VM of a plan that is never ready."""
    return member(vm, ready={"console": "what nobody says", "timeout_s": timeout_s})


def plan(catalog: Catalog, config: Config, *members: dict[str, Any], **facts: Any) -> None:
    """Declare the plan of the samples' group."""
    content = read_plan({"members": list(members), **facts})
    declare_plan(catalog, Store(config.store), "nightly", content, now=NOW)
