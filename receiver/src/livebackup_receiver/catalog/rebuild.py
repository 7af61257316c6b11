# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new catalog out of the store alone: its manifests, and what was decided about points and policies.

It must come before the first session: a session's reconcile would remove the bitmaps of points that the
catalog does not know. Tokens and sessions are in no file of the store, so they are gone with the old catalog.
"""

from __future__ import annotations

from livebackup_receiver.catalog.contents import has_history
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layers import list_layers
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.consolidation.recovery import forget_gone, recover_merges
from livebackup_receiver.decisions import recover_marks
from livebackup_receiver.errors import CatalogLost, StoreFailed
from livebackup_receiver.policies import recover_policies
from livebackup_receiver.store.inventory import take_inventory
from livebackup_receiver.store.marks import read_marks
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.survey import Survey, survey


def rebuild(catalog: Catalog, store: Store) -> Survey:
    """Fill an empty catalog from a store that nobody works in; what was found.

    :raise ManifestInvalid: a decision or the policies cannot be read, so nobody knows what is dropped
    """
    read_marks(store)
    # Before it is settled, the manifest of a merged layer names a parent that may be gone.
    recover_merges(catalog, store)
    found = survey(take_inventory(store), store)
    with catalog.write() as db:
        for point in sorted((*found.points, *found.ghosts), key=lambda each: each.id):
            add_point(db, point)
    recover_marks(catalog, store)
    recover_policies(catalog, store)
    forget_gone(catalog, store)
    return found


def require_catalog(catalog: Catalog, store: Store) -> None:
    """Refuse to work with a catalog that has never heard of what is in the store.

    :raise CatalogLost: it knows no session and no point, and the store holds points
    """
    with catalog.read() as db:
        known = has_history(db)
    if not known and survey(take_inventory(store), store).points:
        raise CatalogLost(catalog.url, str(store.root))


def require_layers(catalog: Catalog, store: Store) -> None:
    """Refuse to work in an empty store if there should be points in it: its file system is not mounted.

    :raise StoreFailed: the catalog knows layers, and no disk has a directory
    """
    with catalog.read() as db:
        known = len(list_layers(db))
    if known and not store.disks():
        problem = f"none of the {known} layers that the catalog knows is there; is its file system mounted?"
        raise StoreFailed(str(store.root), problem)
