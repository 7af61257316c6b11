# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that lies in a store, as its files alone tell it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from livebackup_receiver.chain.preamble import backing_name
from livebackup_receiver.errors import LayerDamaged, ManifestInvalid, StoreFailed
from livebackup_receiver.store import access
from livebackup_receiver.store.durable import TEMPORARY_SUFFIX
from livebackup_receiver.store.manifest import Manifest, read_manifest
from livebackup_receiver.store.marks import Mark, read_marks
from livebackup_receiver.store.paths import (
    DIGESTS_SUFFIX,
    INTENT_SUFFIX,
    LAYER_SUFFIX,
    MANIFEST_SUFFIX,
    PARTIAL_SUFFIX,
    POINT,
    DiskDirectory,
    Store,
)

SUFFIXES = (LAYER_SUFFIX, MANIFEST_SUFFIX, DIGESTS_SUFFIX, PARTIAL_SUFFIX, INTENT_SUFFIX)

Key = tuple[str, str, str]
"""VM, disk, point."""


@dataclass(frozen=True)
class LayerFile:
    """What there is under the name of one layer.

    :param manifest: None if it is missing or cannot be read, as ``problem`` says
    :param size: of the file in bytes; None if there is none
    :param backing: the name of the parent's file in its header
    :param problem: what is wrong with it, if anything is
    """

    vm: str
    disk: str
    point: str
    manifest: Manifest | None
    size: int | None
    backing: str | None
    has_table: bool
    problem: str | None

    @property
    def key(self) -> Key:
        return self.vm, self.disk, self.point

    @property
    def name(self) -> str:
        """Its file, relative to the store."""
        return f"vms/{self.vm}/{self.disk}/{self.point}{LAYER_SUFFIX}"


@dataclass(frozen=True)
class Inventory:
    """What a store holds; paths are relative to it.

    :param merging: layers into which others are being merged, or were when the receiver was killed
    :param strays: files that nothing of the receiver has made
    """

    layers: tuple[LayerFile, ...]
    marks: tuple[Mark, ...]
    merging: tuple[str, ...]
    strays: tuple[str, ...]


def take_inventory(store: Store) -> Inventory:
    """Look at every file of the store; of layers only at their headers.

    :raise ManifestInvalid: a decision about a point cannot be read, so nobody knows which are dropped
    :raise StoreFailed: a disk lies on a volume that is not there
    """
    _require_volumes(store)
    layers: list[LayerFile] = []
    merging: list[str] = []
    strays = [*_strays_beside_disks(store)]
    for vm, disk, directory in store.disks():
        with access.opening([directory.path]):
            names = sorted(path for path in directory.path.iterdir() if path.suffix != TEMPORARY_SUFFIX)
            layers.extend(_layers(vm, disk, directory, names))
        merging.extend(store.relative(path.with_suffix(LAYER_SUFFIX)) for path in directory.intents())
        strays.extend(store.relative(path) for path in names if not _is_ours(path))
    marks = read_marks(store)
    return Inventory(tuple(layers), tuple(marks), tuple(merging), tuple(sorted(strays)))


def _require_volumes(store: Store) -> None:
    for path in store.vms.glob("*/*"):
        if path.is_symlink() and not path.is_dir():
            target = path.readlink()
            raise StoreFailed(str(path), f"it leads to {target}, which is not there; is its volume mounted?")


def _is_ours(path: Path) -> bool:
    return path.suffix in SUFFIXES and POINT.fullmatch(path.stem) is not None and path.is_file()


def _strays_beside_disks(store: Store) -> Iterator[str]:
    disks = {directory.path for dummy, dummy, directory in store.disks()}
    for path in store.vms.glob("*/*"):
        if path not in disks:
            yield store.relative(path)
    for path in [*store.vms.glob("*"), *store.points.glob("*")]:
        if path.parent == store.vms and not path.is_dir():
            yield store.relative(path)
        if path.parent == store.points and not (path.suffix == TEMPORARY_SUFFIX or _is_mark(path)):
            yield store.relative(path)


def _is_mark(path: Path) -> bool:
    return path.suffix == MANIFEST_SUFFIX and POINT.fullmatch(path.stem) is not None


def _layers(vm: str, disk: str, directory: DiskDirectory, names: Iterable[Path]) -> Iterator[LayerFile]:
    found: dict[str, set[str]] = {}
    for path in names:
        if _is_ours(path) and path.suffix in (LAYER_SUFFIX, MANIFEST_SUFFIX, DIGESTS_SUFFIX):
            found.setdefault(path.stem, set()).add(path.suffix)
    for point, suffixes in found.items():
        yield _layer(vm, disk, point, directory, suffixes)


def _layer(vm: str, disk: str, point: str, directory: DiskDirectory, suffixes: set[str]) -> LayerFile:
    manifest, problem = _manifest(vm, disk, point, directory)
    size = backing = None
    if LAYER_SUFFIX in suffixes:
        size = directory.layer(point).stat().st_size
        try:
            backing = backing_name(directory.layer(point))
        except LayerDamaged as error:
            problem = problem or error.problem
    return LayerFile(vm, disk, point, manifest, size, backing, DIGESTS_SUFFIX in suffixes, problem)


def _manifest(vm: str, disk: str, point: str, directory: DiskDirectory) -> tuple[Manifest | None, str | None]:
    try:
        manifest = read_manifest(directory.manifest(point))
    except ManifestInvalid as error:
        return None, f"its manifest cannot be read ({error.problem})"
    if (manifest.vm, manifest.disk, manifest.point) != (vm, disk, point):
        other = f"point {manifest.point} of disk {manifest.disk} of VM {manifest.vm}"
        return None, f"its manifest is that of {other}"
    return manifest, None
