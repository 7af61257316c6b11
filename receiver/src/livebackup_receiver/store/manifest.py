# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest beside each layer: enough to rebuild the catalog from the files alone."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Consistency, Level, MissingVm, Model, Moment, Point, PointDisk, PointVm
from livebackup_receiver.store import durable
from livebackup_receiver.store.paths import Store

WEAKEST_FIRST = list(Consistency)


class Member(Model):
    """One disk of the point; a point is whole when every member's layer is there."""

    vm: str
    disk: str


class Manifest(Model):
    """What one layer is; sizes in bytes, ``layer_size`` is that of its file.

    ``root`` is the digest of the disk's whole content at this point (``store.digests.root_of``); null where
    it could not be made. Merging changes ``parent`` and the sizes of the file, and nothing else.
    """

    format_version: Literal[2] = 2
    point: str
    group: str
    vm: str
    disk: str
    host: str
    parent: str | None
    level: Level
    level_reason: str
    virtual_size: int
    cut_at: Moment
    sealed_at: Moment
    consistency: Consistency
    pause_ms: float | None
    complete: bool
    layer_size: int
    stored_bytes: int
    dirty_bytes: int | None
    sent_bytes: int
    root: str | None
    members: list[Member]
    missing: list[MissingVm] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _take_first_version(cls, fields: Any) -> Any:
        """Version 1 had a digest of the file, which merging would have made wrong, and no root."""
        if isinstance(fields, dict) and fields.get("format_version") == 1:
            kept = {name: value for name, value in fields.items() if name != "digest"}
            return kept | {"format_version": 2, "root": None}
        return fields


def write_manifest(path: Path, manifest: Manifest, *, sync_name: bool = True) -> None:
    """Write the manifest durably.

    :param sync_name: False: the caller brings the directory's names to the disk
    """
    durable.write_file(path, (manifest.model_dump_json(indent=2) + "\n").encode(), sync_name=sync_name)


def read_manifest(path: Path) -> Manifest:
    """:raise ManifestInvalid: it cannot be read, or is of another format version"""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ManifestInvalid(str(path), error.strerror or str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise ManifestInvalid(str(path), f"{where}: {first['msg']}") from None


def point_of(manifests: list[Manifest], store: Store, *, committed_at: datetime) -> Point:
    """The point that these layers make; pure.

    :param manifests: one for each disk of the point
    """
    ordered = sorted(manifests, key=lambda each: (each.vm, each.disk))
    vms = [_vm(list(disks), store) for dummy, disks in groupby(ordered, key=lambda each: each.vm)]
    first = ordered[0]
    return Point(
        id=first.point,
        group=first.group,
        complete=first.complete,
        consistency=weakest([vm.consistency for vm in vms]),
        cut_at=first.cut_at,
        committed_at=committed_at,
        vms=vms,
        missing=first.missing,
    )


def weakest(consistencies: list[Consistency]) -> Consistency:
    """What can be promised of several VMs together."""
    return min(consistencies, key=WEAKEST_FIRST.index)


def _vm(disks: list[Manifest], store: Store) -> PointVm:
    return PointVm(
        vm=disks[0].vm,
        host=disks[0].host,
        pause_ms=disks[0].pause_ms,
        consistency=disks[0].consistency,
        disks=[_disk(disk, store) for disk in disks],
    )


def _disk(manifest: Manifest, store: Store) -> PointDisk:
    return PointDisk(
        disk=manifest.disk,
        virtual_size=manifest.virtual_size,
        level=manifest.level,
        level_reason=manifest.level_reason,
        parent=manifest.parent,
        layer=store.relative(store.disk(manifest.vm, manifest.disk).layer(manifest.point)),
        stored_bytes=manifest.stored_bytes,
        dirty_bytes=manifest.dirty_bytes,
        sent_bytes=manifest.sent_bytes,
        root=manifest.root,
    )
