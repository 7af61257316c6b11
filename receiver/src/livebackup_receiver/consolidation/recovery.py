# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finishes, or undoes, the merges and removals that a kill or a power cut interrupted."""

from __future__ import annotations

import logging

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import has_point
from livebackup_receiver.consolidation.act import Disk, finish_merge, is_done, undo_merge
from livebackup_receiver.consolidation.intent import read_intent
from livebackup_receiver.errors import ReceiverError
from livebackup_receiver.store.inventory import take_inventory
from livebackup_receiver.store.marks import read_marks, remove_mark
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)


def recover_merges(catalog: Catalog, store: Store) -> None:
    """See to every intent in the store; one that cannot be seen to stays, and its disk is left alone."""
    for vm, disk, directory in store.disks():
        if directory.intents():
            settle(Disk(vm, disk, store, catalog))


def settle(disk: Disk) -> bool:
    """Whether no merge of a disk is unfinished any more."""
    for path in disk.directory.intents():
        try:
            merge = read_intent(path)
            if is_done(merge, disk.directory):
                finish_merge(merge, disk)
                log.info("finished the merge into %s, which was interrupted", disk.directory.layer(merge.top))
            else:
                undo_merge(merge, disk.directory)
        except (ReceiverError, OSError) as error:
            log.error("the merge that %s tells of is not finished: %s", path, error)
            return False
    return True


def forget_gone(catalog: Catalog, store: Store) -> None:
    """Remove the marks of dropped points of which neither catalog nor store has anything else.

    They stay if a file system of the store is missing, on which more may be.

    :raise ManifestInvalid: a mark cannot be read
    """
    dropped = [mark.point for mark in read_marks(store) if mark.dropped_at]
    with catalog.read() as db:
        unknown = {point for point in dropped if not has_point(db, point)}
    # A kill leaves some at most; only then every directory of the store is looked into.
    if unknown:
        try:
            there = {layer.point for layer in take_inventory(store).layers}
        except (ReceiverError, OSError) as error:
            log.warning("decisions about %d points that are gone stay: %s", len(unknown), error)
        else:
            for point in sorted(unknown - there):
                remove_mark(store, point)
                log.info("forgot that point %s was dropped, of which nothing is left", point)
