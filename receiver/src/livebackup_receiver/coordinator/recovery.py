# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the receiver does with what an earlier run left behind, before it serves anyone.

A session that is open in the catalog lost its storage daemon and is aborted. Files are removed only
if they are certainly of no point: a layer in flight, or any file of a session that the catalog knows
as not committed. A sealed layer that the catalog does not know at all is kept: then it is the
catalog that was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.sessions import list_sessions, save_session, uncommitted_ids
from livebackup_receiver.consolidation.recovery import forget_gone, recover_merges
from livebackup_receiver.coordinator import transitions
from livebackup_receiver.decisions import recover_marks
from livebackup_receiver.model import Session, SessionState
from livebackup_receiver.policies import recover_policies
from livebackup_receiver.recovery_plans import recover_plans
from livebackup_receiver.rehearsal.conduct import recover_rehearsals
from livebackup_receiver.storage_daemon.leftovers import sweep
from livebackup_receiver.store import durable
from livebackup_receiver.store.durable import TEMPORARY_SUFFIX
from livebackup_receiver.store.paths import PARTIAL_SUFFIX, Store

log = logging.getLogger(__name__)


def recover(catalog: Catalog, store: Store, *, now: datetime) -> None:
    """End what is left of storage daemons, abort the sessions found open, finish what was decided about
    points and merged of layers, and remove the files of all that are not committed.

    :raise ManifestInvalid: a decision about a point, or the policies, cannot be read
    """
    faultpoints.reached("receiver.recovering")
    sweep(store.run)
    with catalog.write() as db:
        for session in list_sessions(db, ended=False, limit=10_000):
            interrupt(session, now=now)
            save_session(db, session)
            log.warning("session %s: %s", session.id, session.reason)
    faultpoints.reached("receiver.sessions-interrupted")
    recover_marks(catalog, store)
    recover_policies(catalog, store)
    recover_plans(catalog, store)
    recover_rehearsals(catalog, store)
    recover_merges(catalog, store)
    forget_gone(catalog, store)
    remove_leftovers(catalog, store, [disk.path for dummy, dummy, disk in store.disks()])
    faultpoints.reached("receiver.leftovers-removed")


def remove_leftovers(catalog: Catalog, store: Store, directories: Iterable[Path]) -> None:
    """Remove from directories of disks, which no session uses, what certainly belongs to no point."""
    with catalog.read() as db:
        uncommitted = uncommitted_ids(db)
    names = [path for directory in directories for path in directory.iterdir()]
    for path in durable.remove_files(leftovers(names, uncommitted=uncommitted)):
        log.info("removed %s, which belongs to no point", store.relative(path))


def interrupt(session: Session, *, now: datetime) -> None:
    """Abort a session of an earlier run."""
    reason = f"the receiver was restarted while the session was {session.state}; run the backup again"
    transitions.enter(session, SessionState.ABORTED, now=now, reason=reason)


def leftovers(paths: list[Path], *, uncommitted: AbstractSet[str]) -> list[Path]:
    """The files that certainly belong to no point; pure.

    :param uncommitted: ids of the sessions that the catalog knows as not committed
    """
    unfinished = (PARTIAL_SUFFIX, TEMPORARY_SUFFIX)
    return [path for path in paths if path.suffix in unfinished or path.name.partition(".")[0] in uncommitted]
