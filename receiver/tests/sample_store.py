# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store with real qcow2 chains, made by qemu-img and qemu-io, and their records in the catalog."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from encrypted_layers import create_layer, write_io
from sample_records import new_id

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.model import Consistency, Level, Point, PointDisk, PointVm
from livebackup_receiver.store.digests import read_chain, root_of, write_table
from livebackup_receiver.store.manifest import Manifest, Member, write_manifest
from livebackup_receiver.store.paths import DiskDirectory

DISK_SIZE = 4 << 20
KIB = 1024


class Write(NamedTuple):
    """Bytes that a guest has written: ``length`` times ``value`` from ``offset`` on.

    ``how`` are the first words of qemu-io's command, if it is another one than a plain write.
    """

    offset: int
    length: int
    value: int
    how: str = ""

    @property
    def command(self) -> str:
        return f"{self.how or f'write -q -P {self.value}'} {self.offset} {self.length}"


Writes = Mapping[tuple[str, str], Sequence[Write]]
"""What was written to each (VM, disk) since the last point."""


@dataclass
class SampleStore:
    """Adds points as the coordinator would; ``content`` is what each disk held at its newest point.

    ``locked`` says whether further layers are encrypted, ``heads`` what the next layer of each disk lies on.
    """

    root: Path
    catalog: Catalog
    locked: bool = False
    content: dict[tuple[str, str], bytes] = field(default_factory=dict)
    heads: dict[tuple[str, str], str] = field(default_factory=dict)
    _sizes: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(
        self,
        writes: Writes,
        *,
        group: str = "nightly",
        cut_at: datetime | None = None,
        sizes: Mapping[tuple[str, str], int] | None = None,
    ) -> Point:
        """A committed point; a disk that has a point already gets an incremental one.

        :param sizes: of disks that are not of the usual size
        """
        self._sizes |= sizes or {}
        cut_at = cut_at or datetime.now(UTC)
        point_id = new_id(cut_at)
        disks = {key: self._add_layer(point_id, *key, done) for key, done in writes.items()}
        point = Point(
            id=point_id,
            group=group,
            complete=True,
            consistency=Consistency.CRASH,
            cut_at=cut_at,
            committed_at=cut_at,
            vms=[self._vm(vm, disks) for vm in sorted({vm for vm, disk in writes})],
        )
        for key, disk in disks.items():
            layer = self.root / disk.layer
            write_manifest(layer.with_suffix(".json"), _manifest(point, key[0], disk, layer, list(writes)))
        with self.catalog.write() as db:
            add_point(db, point)
        return point

    def restored(self, point: Point, content: bytes, vm: str = "db", disk: str = "vd-a") -> None:
        """The VM goes on from an older point, whose content this is: the next one lies on that."""
        self.heads[vm, disk], self.content[vm, disk] = point.id, content

    def forget(self, points: Sequence[str]) -> None:
        """Nothing can lie on these points any more: disks that would get a full backup next."""
        self.heads = {disk: point for disk, point in self.heads.items() if point not in points}

    def layer(self, point: Point, vm: str = "db", disk: str = "vd-a") -> Path:
        """The file of a disk at a point."""
        return self.root / "vms" / vm / disk / f"{point.id}.qcow2"

    def _add_layer(self, point: str, vm: str, disk: str, writes: Sequence[Write]) -> PointDisk:
        parent = self.heads.get((vm, disk))
        path = self.root / "vms" / vm / disk / f"{point}.qcow2"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = self._sizes.get((vm, disk), DISK_SIZE)
        create_layer(path, size, f"{parent}.qcow2" if parent else None, locked=self.locked)
        write_io(path, *(write.command for write in writes))
        self._remember((vm, disk), point, writes)
        return PointDisk(
            disk=disk,
            virtual_size=size,
            level=Level.INCREMENTAL if parent else Level.FULL,
            level_reason="the bitmap of the head is healthy"
            if parent
            else "the disk has no checkpoint bitmap",
            parent=parent,
            layer=str(path.relative_to(self.root)),
            stored_bytes=path.stat().st_blocks * 512,
            dirty_bytes=sum(write.length for write in writes),
            sent_bytes=sum(write.length for write in writes),
            root=_digest(path),
        )

    def _remember(self, key: tuple[str, str], point: str, writes: Sequence[Write]) -> None:
        content = bytearray(self.content.get(key, bytes(DISK_SIZE)))
        for write in writes:
            content[write.offset : write.offset + write.length] = bytes([write.value]) * write.length
        self.content[key] = bytes(content)
        self.heads[key] = point

    def _vm(self, vm: str, disks: Mapping[tuple[str, str], PointDisk]) -> PointVm:
        own = [disk for (owner, dummy), disk in disks.items() if owner == vm]
        return PointVm(vm=vm, host="hv1", pause_ms=21.0, consistency=Consistency.CRASH, disks=own)


def _digest(layer: Path) -> str:
    """Write the digest table of a layer; the digest of the whole disk."""
    directory = DiskDirectory(layer.parent)
    write_table(layer, directory.digests(layer.stem))
    below = run("qemu-img", "info", "--backing-chain", "--output=json", str(layer))
    chain = [Path(each["filename"]).with_suffix(".digests") for each in json.loads(below)]
    return root_of(read_chain(chain[::-1]))


def run(*argv: str, cwd: Path | None = None, timeout_s: float = 55) -> str:
    """Run a program that must succeed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=timeout_s, cwd=cwd).stdout


def read_image(path: Path, format: str, scratch: Path) -> bytes:
    """The content of an image file."""
    raw = scratch / f"{path.name}.content"
    run("qemu-img", "convert", "-f", format, "-O", "raw", str(path), str(raw))
    return raw.read_bytes()


def _manifest(
    point: Point, vm: str, disk: PointDisk, layer: Path, members: Sequence[tuple[str, str]]
) -> Manifest:
    return Manifest(
        point=point.id,
        group=point.group,
        vm=vm,
        disk=disk.disk,
        host="hv1",
        parent=disk.parent,
        level=disk.level,
        level_reason=disk.level_reason,
        virtual_size=disk.virtual_size,
        cut_at=point.cut_at,
        sealed_at=point.committed_at,
        consistency=point.consistency,
        pause_ms=21.0,
        complete=True,
        layer_size=layer.stat().st_size,
        stored_bytes=disk.stored_bytes,
        dirty_bytes=disk.dirty_bytes,
        sent_bytes=disk.sent_bytes,
        root=disk.root,
        members=[Member(vm=owner, disk=name) for owner, name in members],
    )
