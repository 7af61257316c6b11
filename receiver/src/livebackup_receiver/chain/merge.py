# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several layers, each over the one before, as one layer: in a new file, or added to the lowest one's own.

Nothing that anybody can read is changed before the new tables are on the disk. A new file is nobody's until
it is renamed. A file that is added to gets the data and tables behind its end, and then another first
sector.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from itertools import accumulate, pairwise
from pathlib import Path

from livebackup_receiver import faultpoints
from livebackup_receiver.chain import blank, layout
from livebackup_receiver.chain.assembly import Assembly
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.fold import Folded, folds
from livebackup_receiver.chain.image import Image, open_image, with_tables
from livebackup_receiver.chain.keyring import cipher_of
from livebackup_receiver.chain.preamble import Span
from livebackup_receiver.chain.proof import check_fold
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported


@dataclass(frozen=True)
class Parent:
    """The layer below those that are merged: the name of its file, and the size of the disk then."""

    name: str
    virtual_size: int


@contextmanager
def open_layers(paths: Sequence[Path], *, writable: int | None = None) -> Iterator[list[Image]]:
    """Open layers, bottom first; ``writable`` is the number of the one that is written to.

    :raise LayerDamaged: one is missing or no sound image
    :raise LayerUnsupported: one has a feature that is not understood here
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(open_image(path, writable=number == writable))
            for number, path in enumerate(paths)
        ]


def merge(paths: Sequence[Path], target: Path, *, parent: Parent | None, copier: Copier) -> None:
    """Write a new file that holds over the parent what the layers hold together, durable but for its name.

    It is encrypted if any of the layers is.

    :param paths: bottom first
    :param target: must not exist; it is gone again if this fails
    :raise LayerDamaged: a layer is no sound image
    :raise LayerUnsupported: the layers cannot be merged without decoding them
    :raise KeyMissing: one is encrypted, and its key was not given
    """
    with open_layers(paths) as layers:
        require_mergeable(layers, parent)
        try:
            _write_new(layers, target, parent, copier, _donor(layers))
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def append(paths: Sequence[Path], *, parent: Parent | None, copier: Copier) -> None:
    """Add to the lowest layer what those above it hold, so that its file alone is as good as all.

    Until the last step it stays what it was, and after it nothing reads otherwise through the layers above.

    :param paths: bottom first; of the lowest nobody may need what the others mask
    :raise LayerDamaged: a layer is no sound image
    :raise LayerUnsupported: the layers cannot be merged like this
    """
    with open_layers(paths, writable=0) as layers:
        require_mergeable(layers, parent)
        lowest = layers[0]
        require_appendable(layers, parent)
        name = parent.name if parent else None
        place = layout.aligned(lowest.size, lowest.cluster_bytes)
        own = lowest.luks, cipher_of(lowest)
        assembly = Assembly(layers, lowest.file, copier, name, place, 0, *own)
        for folded in folds(layers):
            if folded.held.compressed.any():
                raise LayerUnsupported(str(lowest.path), "it or what comes to it is compressed")
            assembly.add(folded)
        plan = assembly.finish()
        check_fold(layers, with_tables(lowest, layout.header_with(lowest.header, plan)))
        os.fdatasync(lowest.descriptor)
        faultpoints.reached("chain.appended")
        sector = os.pread(lowest.descriptor, layout.SECTOR, 0)
        os.pwrite(lowest.descriptor, layout.flipped(sector, plan), 0)
        os.fsync(lowest.descriptor)
        faultpoints.reached("chain.flipped")


def require_mergeable(layers: Sequence[Image], parent: Parent | None) -> None:
    """See that entries of these layers mean the same in one file.

    :raise LayerDamaged: one does not lie on the one before it
    :raise LayerUnsupported: they do not
    """
    top = layers[-1]
    for layer in layers:
        if layer.cluster_bits != top.cluster_bits:
            raise LayerUnsupported(str(layer.path), "its clusters are of another size")
    for lower, upper in pairwise(layers):
        if upper.backing != lower.path.name:
            raise LayerDamaged(str(upper.path), f"its parent is not {lower.path.name}")
    if layers[0].backing != (parent.name if parent else None):
        raise LayerDamaged(str(layers[0].path), f"its parent is {layers[0].backing}, which it should not be")
    _require_clear_ends(layers, parent)


def _require_clear_ends(layers: Sequence[Image], parent: Parent | None) -> None:
    """Past the end of a shorter layer, a part of a cluster must not show what lies below."""
    lowest = parent.virtual_size if parent else 0
    below = accumulate((layer.virtual_size for layer in layers), max, initial=lowest)
    for layer, largest in zip(layers[:-1], below, strict=False):
        partial = layer.virtual_size % layer.cluster_bytes and layer.virtual_size < layers[-1].virtual_size
        if partial and largest > layer.virtual_size:
            raise LayerUnsupported(str(layer.path), "it ends within a cluster of a longer layer below")


def require_appendable(layers: Sequence[Image], parent: Parent | None) -> None:
    """See that nothing in the file depends on the tables that it will lose, and it takes what comes to it.

    :param layers: bottom first
    :raise LayerUnsupported: it is not so
    """
    layer = layers[0]
    if _donor(layers) and not layer.luks:
        raise LayerUnsupported(str(layer.path), "it is plain, and what comes to it is encrypted")
    if layer.has_bitmaps or layer.header.autoclear_features:
        raise LayerUnsupported(str(layer.path), "it has persistent bitmaps")
    if parent and layer.backing_format != "qcow2":
        raise LayerUnsupported(str(layer.path), "it does not say the format of its parent")


def _donor(layers: Sequence[Image]) -> Image | None:
    """Whose LUKS header the merged layer gets: what was encrypted is never written plain."""
    return next((layer for layer in reversed(layers) if layer.luks), None)


def _copy_luks(donor: Image, file: FileIO, place: int, copier: Copier) -> Span | None:
    """Give a new file the LUKS header of another, and with it its key."""
    if donor.luks is None:
        return None
    area = os.pread(donor.descriptor, donor.luks.length, donor.luks.offset)
    for piece in blank.area_pieces(area, place):
        copier.write(file.fileno(), piece.content, piece.place)
    return Span(place, len(area))


def _write_new(
    layers: Sequence[Image], target: Path, parent: Parent | None, copier: Copier, donor: Image | None
) -> None:
    with target.open("x+b", buffering=0) as file:
        name, step = parent.name if parent else None, layers[-1].cluster_bytes
        span = _copy_luks(donor, file, step, copier) if donor else None
        place = layout.aligned(sum(span), step) if span else step
        cipher = cipher_of(donor) if donor else None
        _assemble(Assembly(layers, file, copier, name, place, None, span, cipher), folds(layers))
        os.fsync(file.fileno())
    with open_image(target) as made:
        check_fold(layers, made)
    faultpoints.reached("chain.merged")


def write_plain(layers: Sequence[Image], folded: Iterable[Folded], file: FileIO, *, copier: Copier) -> None:
    """Write an image that has no parent and is not encrypted; the caller syncs it.

    The same layers give the same places, and ascending ones, so what is there already is not copied again.

    :param layers: that ``folded`` is of; the last one gives the size
    :param file: empty but for what the copier does not copy again
    :raise LayerDamaged: a layer is no sound image
    :raise LayerUnsupported: the layers cannot be merged without decoding them
    """
    _assemble(Assembly(layers, file, copier, None, layers[-1].cluster_bytes), folded)


def _assemble(assembly: Assembly, folded: Iterable[Folded]) -> None:
    for each in folded:
        assembly.add(each)
    plan = assembly.finish()
    assembly.copier.write(assembly.file.fileno(), layout.header(plan), 0)
