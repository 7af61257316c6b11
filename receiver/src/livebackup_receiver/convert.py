# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain of layers as one image file without a parent, and the proof that it is what was backed up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path

from livebackup_receiver.chain import flat
from livebackup_receiver.chain.copying import Copier, at_once
from livebackup_receiver.chain.image import open_image
from livebackup_receiver.chain.merge import merge, open_layers
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported
from livebackup_receiver.store import durable
from livebackup_receiver.store.digests import Table, read_chain
from livebackup_receiver.store.paths import DIGESTS_SUFFIX
from livebackup_receiver.store.qcow2 import CLUSTER_BYTES
from livebackup_receiver.store.verify import Range, damaged_ranges, whole_disk
from livebackup_receiver.subprocesses import run_in_thread

RANGES_NAMED = 5


class Format(StrEnum):
    """Of the files that a restore writes."""

    QCOW2 = "qcow2"
    RAW = "raw"


def write(layers: Sequence[Path], target: Path, format: Format) -> None:
    """Write a chain's content into a new file, durable but for its name.

    :param layers: top first
    :raise LayerDamaged: a layer is no sound image
    :raise CommandFailed: qemu-img failed, which is asked where the layers are of a kind not understood here
    :raise OSError: the target cannot be written
    """
    target.unlink(missing_ok=True)
    try:
        _write(layers[::-1], target, format)
    except LayerUnsupported:
        target.unlink(missing_ok=True)
        run_in_thread(["qemu-img", "convert", "-f", "qcow2", "-O", format, str(layers[0]), str(target)])
    durable.sync_file(target)


def _write(layers: Sequence[Path], target: Path, format: Format) -> None:
    copier = Copier(share=True)
    if format is Format.QCOW2:
        merge(layers, target, parent=None, copier=copier, plain=True)
        return
    with open_layers(layers) as images:
        flat.write_raw(images, target, copier=copier)


def measure(layers: Sequence[Path]) -> int:
    """The bytes that a chain's data take as a file of either format, without its tables.

    :param layers: top first
    :raise LayerDamaged: a layer is no sound image
    """
    try:
        with open_layers(layers[::-1]) as images:
            return sum(extent.length for extent in flat.extents(images))
    except LayerUnsupported:
        asked = ["qemu-img", "measure", "--output=json", "-f", "qcow2", "-O", "qcow2", str(layers[0])]
        return int(json.loads(run_in_thread(asked))["required"])


def verify(layers: Sequence[Path], written: Path, format: Format) -> None:
    """Compare a written file with the digests of the chain, end to end.

    :param layers: top first
    :raise LayerDamaged: it differs, so a layer is not what was received
    :raise DigestsInvalid: a digest table is missing or damaged
    """
    tables = read_chain([layer.with_suffix(DIGESTS_SUFFIX) for layer in layers[::-1]])
    size = tables[-1].virtual_size
    with ExitStack() as stack:
        if format is Format.QCOW2:
            extents = flat.extents([stack.enter_context(open_image(written))])
        else:
            extents = flat.file_extents(stack.enter_context(written.open("rb")).fileno(), size)
        damaged = list(damaged_ranges(extents, size, whole_disk(tables), pace=at_once))
    if damaged:
        raise LayerDamaged(str(_holder(layers[::-1], tables, damaged[0])), describe(damaged))


def describe(ranges: Sequence[Range]) -> str:
    """The first of some damaged ranges, for people."""
    named = ", ".join(f"{offset} to {offset + length}" for offset, length in ranges[:RANGES_NAMED])
    more = f" and {len(ranges) - RANGES_NAMED} more ranges" if len(ranges) > RANGES_NAMED else ""
    return f"the disk's bytes {named}{more} do not match their digests"


def _holder(layers: Sequence[Path], tables: Sequence[Table], damaged: Range) -> Path:
    """The layer that holds a damaged cluster."""
    cluster = damaged[0] // CLUSTER_BYTES
    holders = [layer for layer, table in zip(layers, tables, strict=True) if cluster in table.index]
    return holders[-1] if holders else layers[-1]
