# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slow way to merge layers that ``chain`` does not take apart: QEMU reads, a new file is written.

``qemu-img rebase`` in place is not safe against a kill, so it works on a copy that is nobody's yet; the
result is compared with what the chain held, cluster by cluster, before it takes the layer's place.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from livebackup_receiver.chain.copying import Pace
from livebackup_receiver.chain.preamble import backing_name
from livebackup_receiver.consolidation.act import Disk, replace_layer
from livebackup_receiver.consolidation.plan import Merge
from livebackup_receiver.errors import LayerDamaged
from livebackup_receiver.store import durable
from livebackup_receiver.subprocesses import run_in_thread


def merge_by_qemu(action: Merge, disk: Disk, pace: Pace) -> None:
    """Merge layers whatever they are, in a new file.

    :raise GiveWay: as ``pace`` raises it; nothing has changed
    :raise LayerDamaged: a layer leads elsewhere than to the one below it
    :raise CommandFailed: qemu-img cannot read them, or the result differs; nothing has changed
    :raise LayerInUse: somebody opens them; try again later
    """
    directory = disk.directory
    layers = [directory.layer(point) for point in action.points]
    below = directory.layer(action.parent) if action.parent else None
    _require_chain(layers, below)
    run = partial(run_in_thread, look=partial(pace, 0))

    def make(made: Path) -> Path:
        pace(layers[-1].stat().st_blocks * 512)
        shutil.copyfile(layers[-1], made)
        parent = ["-b", below.name, "-F", "qcow2"] if below else ["-b", ""]
        run(["qemu-img", "rebase", "-f", "qcow2", *parent, str(made)])
        run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", str(layers[-1]), str(made)])
        durable.sync_file(made)
        return made

    replace_layer(action, disk, make)


def _require_chain(layers: list[Path], below: Path | None) -> None:
    """QEMU would follow any name, so the names are looked at first."""
    for layer, parent in zip(layers, [below, *layers[:-1]], strict=True):
        if (found := backing_name(layer)) != (parent.name if parent else None):
            raise LayerDamaged(str(layer), f"its parent is {found}, which it should not be")
