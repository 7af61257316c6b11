# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guests wrote, read from disk images without booting them, and whether it can be of one instant.

A machine writes record n to disk A, makes it durable, then to disk B, makes it durable, and only then tells n
to the next machine, which does the same. The next machine tells back what it holds, and that number goes into
every record written from then on (`acknowledged`). So in any instant of the whole chain:

* one machine: `b <= a <= b + 1`, and nothing valid lies beyond;
* a machine and the next one: `next.a <= machine.b`, since n was not told before it was on B;
* the other way round: `machine.acknowledged <= next.b`, since a record that knows of n was written after n.

Copies taken at different instants break one of these as soon as one message passed in between.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lab.errors import ImageDamaged
from lab.process import run
from lab.topology import CHAIN

RECORD_SIZE = 1024
HEADER = struct.Struct("<8sQQ16sI")  # workload/record.h
CHECKSUM_OFFSET = 40
MAGIC = b"LBRECRD1"


@dataclass(frozen=True)
class DiskRecords:
    """The records of one disk."""

    prefix: int
    """Records 1 to this one are there and intact."""
    beyond: int
    """Intact records that lie after the first one missing."""
    torn: int
    """Places that hold something, but not their record."""
    acknowledged: int
    """The newest record of the next machine that a record of the prefix knows of."""
    clean: bool
    """The file system needed no journal replay, as after a freeze."""


@dataclass(frozen=True)
class VmRecords:
    """The records of both disks of a machine."""

    a: DiskRecords
    b: DiskRecords


def read(vm: str, images: Mapping[str, Path]) -> VmRecords:
    """Read both disks of `vm` from images of any format, chain or flat; ImageDamaged if one is unreadable."""
    return VmRecords(read_disk(images["a"], f"{vm}/a"), read_disk(images["b"], f"{vm}/b"))


def read_disk(image: Path, owner: str) -> DiskRecords:
    """Read the records of `owner` ("db/a") from a scratch copy of `image`, with its journal replayed."""
    with tempfile.TemporaryDirectory(prefix="livebackup-lab-") as scratch:
        raw, dumped = Path(scratch, "raw"), Path(scratch, "records")
        _flatten(image, raw)
        clean = _replay(image, raw)
        run(["debugfs", "-R", f"dump /records {dumped}", str(raw)])
        return scan(dumped.read_bytes() if dumped.exists() else b"", owner, clean=clean)


def _flatten(image: Path, raw: Path) -> None:
    convert = ["qemu-img", "convert", "-U", "-O", "raw", str(image), str(raw)]
    done = run(convert, check=False, timeout=600)
    if done.returncode != 0:
        raise ImageDamaged(str(image), done.stderr.strip())


def _replay(image: Path, raw: Path) -> bool:
    """Replay the journal and check the file system; was there nothing to replay?"""
    clean = "needs_recovery" not in run(["dumpe2fs", "-h", str(raw)], check=False).stdout
    run(["e2fsck", "-E", "journal_only", "-y", str(raw)], check=False)
    check = run(["e2fsck", "-f", "-n", str(raw)], check=False)
    if check.returncode != 0:
        raise ImageDamaged(str(image), f"its file system is inconsistent: {check.stdout.strip()}")
    return clean


def scan(content: bytes, owner: str, *, clean: bool = True) -> DiskRecords:
    """Find the records of `owner` in the file they are written to."""
    count = -(-len(content) // RECORD_SIZE)
    known = [acknowledged_in(_slot(content, number), owner, number) for number in range(1, count + 1)]
    prefix = next((index for index, value in enumerate(known) if value is None), count)
    rest = range(prefix, count)
    return DiskRecords(
        prefix=prefix,
        beyond=sum(known[index] is not None for index in rest),
        torn=sum(known[index] is None and any(_slot(content, index + 1)) for index in rest),
        acknowledged=max((value for value in known[:prefix] if value is not None), default=0),
        clean=clean,
    )


def acknowledged_in(record: bytes, owner: str, number: int) -> int | None:
    """The `acknowledged` field of the intact record `number` of `owner`; None if this is anything else."""
    if len(record) != RECORD_SIZE:
        return None
    magic, found, acknowledged, name, checksum = HEADER.unpack_from(record)
    if (magic, found, name.rstrip(b"\0")) != (MAGIC, number, owner.encode()):
        return None
    blank = record[:CHECKSUM_OFFSET] + bytes(4) + record[CHECKSUM_OFFSET + 4 :]
    return int(acknowledged) if zlib.crc32(blank) == checksum else None


def _slot(content: bytes, number: int) -> bytes:
    return content[(number - 1) * RECORD_SIZE : number * RECORD_SIZE]


def violations(found: Mapping[str, VmRecords], chain: Sequence[str] = CHAIN) -> list[str]:
    """Why these records cannot be of one instant, a sentence each; empty if they can."""
    present = [name for name in chain if name in found]
    reasons = [reason for name in present for reason in vm_violations(name, found[name])]
    for name, after in pairwise(chain):
        if name in found and after in found:
            reasons += pair_violations(name, found[name], after, found[after])
    return reasons


def vm_violations(name: str, vm: VmRecords) -> list[str]:
    """What is wrong with the two disks of one machine."""
    a, b = vm.a.prefix, vm.b.prefix
    reasons = [] if b <= a <= b + 1 else [f"{name}: disk a ends at record {a} and disk b at {b}"]
    for letter, disk in (("a", vm.a), ("b", vm.b)):
        if disk.beyond:
            reasons.append(f"{name}: disk {letter} lacks record {disk.prefix + 1} but has later ones")
        if disk.torn > 1:
            reasons.append(f"{name}: disk {letter} has {disk.torn} damaged records")
    return reasons


def pair_violations(name: str, vm: VmRecords, after: str, following: VmRecords) -> list[str]:
    """What is wrong between a machine and the one that follows it."""
    reasons = []
    if following.a.prefix > vm.b.prefix:
        reasons.append(f"{after} has record {following.a.prefix}, but {name} ends at {vm.b.prefix}")
    if vm.a.acknowledged > following.b.prefix:
        known = vm.a.acknowledged
        reasons.append(f"{name} knows of record {known} of {after}, which ends at {following.b.prefix}")
    return reasons
