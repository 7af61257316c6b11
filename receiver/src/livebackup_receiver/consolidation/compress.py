# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compresses layers in a second pass, when nothing else is to be done.

QEMU up to 7.2 corrupts images in which compressed clusters are freed and written again in one go, so a
layer is taken in plain, and each cluster of the compressed one is written once. The clusters are QEMU's
zstd clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from livebackup_receiver.chain import flat
from livebackup_receiver.chain.fold import folds
from livebackup_receiver.chain.image import COMPRESSED, Image, open_image
from livebackup_receiver.consolidation.act import Disk, replace_layer
from livebackup_receiver.consolidation.plan import Merge
from livebackup_receiver.errors import LayerDamaged
from livebackup_receiver.store import durable
from livebackup_receiver.store.digests import read_table
from livebackup_receiver.store.verify import damaged_ranges, one_layer
from livebackup_receiver.subprocesses import run_in_thread

# Whoever restores wants the newest points at once, and each new point makes another one old.
SMALLEST_BYTES = 1 << 20
WORTH_IT = 0.95


class Incompressible(Exception):
    """Compressed, the layer would take as much room."""


def is_compressible(layer: Path) -> bool:
    """Whether a layer has much data, and none of it compressed or encrypted.

    :raise LayerDamaged: it cannot be read
    :raise LayerUnsupported: it is of another kind
    """
    if layer.stat().st_blocks * 512 < SMALLEST_BYTES:
        return False
    with open_image(layer) as image:
        # QEMU does not compress what it encrypts.
        return not image.luks and not any((tables & COMPRESSED).any() for dummy, tables in image.batches())


def compress_layer(point: str, parent: str | None, disk: Disk, pace: Callable[[int], None]) -> None:
    """Replace a layer by a compressed one that holds the same; proven by its digests before.

    :raise LayerDamaged: the layer, or what has become of it, does not hold what its digests say
    :raise DigestsInvalid: it has no digests, so nothing could be proven
    :raise CommandFailed: qemu-img failed
    :raise Incompressible: it would not be smaller; nothing has changed
    :raise LayerInUse: somebody opens the layers; try again later
    """
    directory = disk.directory
    layer = directory.layer(point)
    below = directory.layer(parent) if parent else None
    run = partial(run_in_thread, look=partial(pace, 0))

    def make(made: Path) -> Path:
        pace(layer.stat().st_blocks * 512)
        options = ["-B", str(below), "-F", "qcow2"] if below else []
        kind = ["-c", "-o", "compression_type=zstd"]
        convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", *kind, *options]
        run([*convert, str(layer), str(made)])
        if below:
            # Beside the layer, so that the chain can be moved; convert would write the whole path.
            rebase = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", below.name, "-F", "qcow2"]
            run([*rebase, str(made)])
        durable.sync_file(made)
        if made.stat().st_blocks > layer.stat().st_blocks * WORTH_IT:
            raise Incompressible
        _require_same(layer, made, directory.digests(point), pace)
        return made

    replace_layer(Merge((point,), parent, "new", ()), disk, make)


def _require_same(layer: Path, made: Path, table: Path, pace: Callable[[int], None]) -> None:
    with open_image(layer) as before, open_image(made) as after:
        if (after.virtual_size, after.backing) != (before.virtual_size, before.backing):
            raise LayerDamaged(str(made), "its header is not that of the layer it was made from")
        if before.backing and _clusters(before) != _clusters(after):
            raise LayerDamaged(str(made), "it does not hold the clusters of the layer it was made from")
        expected = one_layer(read_table(table))
        extents = flat.extents([after])
        for offset, length in damaged_ranges(extents, after.virtual_size, expected, pace=pace):
            raise LayerDamaged(str(made), f"its {length} bytes at {offset} do not match their digests")


def _clusters(image: Image) -> bytes:
    """Which clusters an image holds; whether one is data or zeros is for the digests."""
    return b"".join(folded.held.index.tobytes() for folded in folds([image]))
