# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new catalog out of the store alone: its manifests, and what was decided about points and policies.

It must come before the first session: a session's reconcile would remove the bitmaps of points that the
catalog does not know. Tokens and sessions are in no file of the store, so they are gone with the old catalog.
"""

from __future__ import annotations

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.consolidation.recovery import forget_gone, recover_merges
from livebackup_receiver.decisions import recover_marks
from livebackup_receiver.policies import recover_policies
from livebackup_receiver.recovery_plans import recover_plans
from livebackup_receiver.rehearsal.conduct import recover_rehearsals
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
    recover_plans(catalog, store)
    recover_rehearsals(catalog, store)
    forget_gone(catalog, store)
    return found
