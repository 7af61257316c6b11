# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slow way to merge layers that ``chain`` does not take apart: QEMU reads, a new file is written.

``qemu-img rebase`` in place is not safe against a kill, so it works on a copy that is nobody's yet; the
result is compared with what the chain held, cluster by cluster, before it takes the layer's place.
"""

from __future__ import annotations

import shutil
import subprocess

from livebackup_receiver import faultpoints
from livebackup_receiver.consolidation.act import Disk, finish_merge, undo_merge
from livebackup_receiver.consolidation.intent import write_intent
from livebackup_receiver.consolidation.plan import Merge
from livebackup_receiver.errors import CommandFailed, LayerInUse
from livebackup_receiver.store import access, durable
from livebackup_receiver.store.durable import TEMPORARY_SUFFIX

# Longer than any disk takes; a hung file system must not hold the store for ever.
TIMEOUT_S = 24 * 3600.0


def merge_by_qemu(action: Merge, disk: Disk) -> None:
    """Merge layers whatever they are, in a new file.

    :raise CommandFailed: qemu-img cannot read them, or the result differs; nothing has changed
    :raise LayerInUse: somebody opens them; try again later
    """
    directory = disk.directory
    layer = directory.layer(action.top)
    made = layer.with_name(layer.name + TEMPORARY_SUFFIX)
    write_intent(directory.intent(action.top), action)
    try:
        shutil.copyfile(layer, made)
        parent = ["-b", directory.layer(action.parent).name, "-F", "qcow2"] if action.parent else ["-b", ""]
        _run("qemu-img", "rebase", "-f", "qcow2", *parent, str(made))
        _run("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", str(layer), str(made))
        durable.sync_file(made)
        with access.alone(directory.path) as free:
            if not free:
                raise LayerInUse(str(directory.path))
            durable.rename(made, layer)
            faultpoints.reached("chain.layer-replaced")
            finish_merge(action, disk)
    except BaseException:
        if made.exists():
            undo_merge(action, directory)
        raise


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        words = done.stderr or done.stdout
        raise CommandFailed(" ".join(argv[:2]), done.returncode, words)
