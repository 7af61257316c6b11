# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of consolidation, in the only safe order.

Of a merge: intent, new file, its proof, its name, digest table, manifest, catalog, and only then the merged
layers go, and the intent. Until the new name is there nothing that anybody reads has changed; after it the
merged layers are read by nobody. ``finish_merge`` may be repeated from any point behind the name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.chains import forget_layers, record_merge, record_size
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import carry_checks
from livebackup_receiver.chain import holes
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.image import open_image
from livebackup_receiver.chain.merge import Parent, append, merge
from livebackup_receiver.chain.preamble import backing_name
from livebackup_receiver.chain.punch import punch
from livebackup_receiver.chain.space import unreferenced
from livebackup_receiver.consolidation.intent import write_intent
from livebackup_receiver.consolidation.plan import Action, Merge, Punch, Remove
from livebackup_receiver.errors import DigestsInvalid, LayerInUse
from livebackup_receiver.store import access, durable
from livebackup_receiver.store.digests import read_table, write_merged
from livebackup_receiver.store.durable import TEMPORARY_SUFFIX
from livebackup_receiver.store.manifest import read_manifest, write_manifest
from livebackup_receiver.store.marks import remove_mark
from livebackup_receiver.store.paths import DiskDirectory, Store

log = logging.getLogger(__name__)

BLOCK = 512


@dataclass(frozen=True)
class Disk:
    """A disk whose layers are consolidated, and what is needed for that."""

    vm: str
    disk: str
    store: Store
    catalog: Catalog

    @property
    def directory(self) -> DiskDirectory:
        return self.store.disk(self.vm, self.disk)


def carry_out(action: Action, disk: Disk, copier: Copier) -> None:
    """Do one step; afterwards everything is on the disk and in the catalog.

    :raise LayerInUse: somebody opens or reads the layers; try again later
    :raise LayerUnsupported: they cannot be merged like this; nothing has changed
    :raise LayerDamaged: a layer is damaged; nothing has changed
    :raise OSError: the file system refuses; nothing is lost
    """
    if isinstance(action, Remove):
        remove_layers(disk, [action.point])
    elif isinstance(action, Punch):
        _punch(action, disk)
    else:
        _merge(action, disk, copier)


def _punch(action: Punch, disk: Disk) -> None:
    directory = disk.directory
    ghost = directory.layer(action.point)
    with access.alone(ghost) as free:
        if not free:
            raise LayerInUse(str(ghost))
        freed = punch(ghost, [directory.layer(child) for child in action.children])
    with disk.catalog.write() as db:
        record_size(db, disk.vm, disk.disk, point=action.point, stored_bytes=ghost.stat().st_blocks * BLOCK)
    log.info("freed %d bytes of %s, which its children mask", freed, ghost)


def _merge(action: Merge, disk: Disk, copier: Copier) -> None:
    replace_layer(action, disk, lambda made: _make(action, disk.directory, made, copier))
    if action.into == "lowest":
        _free(action.top, disk)


def replace_layer(action: Merge, disk: Disk, make: Callable[[Path], Path]) -> None:
    """Put another file in the place of the uppermost layer, whatever makes it.

    :param make: given the name of a file that does not exist, makes that or another; durable, and proven
    :raise LayerInUse: somebody opens the layers; nothing has changed
    """
    directory = disk.directory
    write_intent(directory.intent(action.top), action)
    faultpoints.reached("chain.intent-written")
    named = False
    try:
        made = make(temporary(directory.layer(action.top)))
        with access.alone(directory.path) as free:
            if not free:
                raise LayerInUse(str(directory.path))
            made.rename(directory.layer(action.top))
            named = True
            durable.sync_directory(directory.path)
            faultpoints.reached("chain.layer-replaced")
            finish_merge(action, disk)
    except BaseException:
        if not named:
            undo_merge(action, directory)
        raise


def temporary(layer: Path) -> Path:
    """The file that is to become a layer."""
    return layer.with_name(layer.name + TEMPORARY_SUFFIX)


def _make(action: Merge, directory: DiskDirectory, made: Path, copier: Copier) -> Path:
    """The file that takes the uppermost layer's place."""
    layers = [directory.layer(point) for point in action.points]
    parent = _parent(action, directory)
    if action.into == "lowest":
        append(layers, parent=parent, copier=copier)
        return layers[0]
    made.unlink(missing_ok=True)
    merge(layers, made, parent=parent, copier=copier)
    return made


def _parent(action: Merge, directory: DiskDirectory) -> Parent | None:
    if action.parent is None:
        return None
    path = directory.layer(action.parent)
    with open_image(path) as image:
        return Parent(path.name, image.virtual_size)


def is_done(action: Merge, directory: DiskDirectory) -> bool:
    """Whether the uppermost layer is the merged one already.

    :raise LayerDamaged: it cannot be read
    """
    # QEMU has merged layers of kinds that open_image does not understand.
    found = backing_name(directory.layer(action.top))
    return found == (directory.layer(action.parent).name if action.parent else None)


def undo_merge(action: Merge, directory: DiskDirectory) -> None:
    """Remove what was made for a merge that has not happened; what is behind a file's end stays there."""
    durable.remove_files([temporary(directory.layer(action.top))])
    if action.into == "lowest":
        lowest = directory.manifest(action.points[0])
        status = directory.layer(action.points[0]).stat()
        sizes = {"layer_size": status.st_size, "stored_bytes": status.st_blocks * BLOCK}
        write_manifest(lowest, read_manifest(lowest).model_copy(update=sizes))
    durable.remove_files([directory.intent(action.top)])


def finish_merge(action: Merge, disk: Disk) -> None:
    """Everything behind the new name of a merged layer; may be repeated."""
    directory = disk.directory
    manifest = read_manifest(directory.manifest(action.top))
    # The manifest has its new parent only when the table is done; tables of merged layers may be gone then.
    if manifest.parent != action.parent:
        _replace_table(action, directory)
    faultpoints.reached("chain.table-replaced")
    layer = directory.layer(action.top)
    status = layer.stat()
    stored = status.st_blocks * BLOCK
    changed = {"parent": action.parent, "layer_size": status.st_size, "stored_bytes": stored}
    write_manifest(directory.manifest(action.top), manifest.model_copy(update=changed))
    faultpoints.reached("chain.manifest-replaced")
    with disk.catalog.write() as db:
        record_merge(db, disk.vm, disk.disk, point=action.top, parent=action.parent, stored_bytes=stored)
        carry_checks(db, disk.vm, disk.disk, action.points)
    faultpoints.reached("chain.catalog-written")
    remove_layers(disk, action.removes)
    faultpoints.reached("chain.merged-removed")
    durable.remove_files([directory.intent(action.top)])


def _replace_table(action: Merge, directory: DiskDirectory) -> None:
    """Lay the layers' digest tables over each other; without one of them there is none.

    The old one of the uppermost layer would call damaged what has come from the others.
    """
    paths = [directory.digests(point) for point in action.points]
    try:
        tables = [read_table(path) for path in paths]
    except DigestsInvalid as error:
        log.warning("%s; %s has none", error.cause, directory.layer(action.top))
        durable.remove_files([paths[-1]])
    else:
        write_merged(tables, paths[-1], parented=action.parent is not None)


def remove_layers(disk: Disk, points: Sequence[str]) -> None:
    """Remove layers that nobody needs, with everything beside them, and what the catalog says of them."""
    directory = disk.directory
    # The manifest goes last: what is left of a layer after a kill still says what it was.
    durable.remove_files(
        path for point in points for path in (directory.layer(point), directory.digests(point))
    )
    durable.remove_files(directory.manifest(point) for point in points)
    with disk.catalog.write() as db:
        gone = forget_layers(db, disk.vm, disk.disk, points)
    faultpoints.reached("chain.layers-forgotten")
    for point in gone:
        remove_mark(disk.store, point)


def _free(point: str, disk: Disk) -> None:
    """Give back what a file holds behind its tables' back since it was added to, if nobody reads it.

    Where no holes can be made it stays until the file is merged again.
    """
    layer = disk.directory.layer(point)
    with access.alone(layer) as free, open_image(layer, writable=True) as image:
        if not free or not holes.punches(layer.parent):
            return
        for offset, length in unreferenced(image):
            holes.punch(image.descriptor, offset, length)
    with disk.catalog.write() as db:
        record_size(db, disk.vm, disk.disk, point=point, stored_bytes=layer.stat().st_blocks * BLOCK)
