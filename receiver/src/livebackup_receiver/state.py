# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running receiver consists of; made by ``daemon``, used by every route."""

from __future__ import annotations

from dataclasses import dataclass

from livebackup_receiver.browse.live import LiveBrowses
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.check_watch import CheckWatch
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.worker import Consolidator
from livebackup_receiver.coordinator.registry import LiveSessions
from livebackup_receiver.events import Feed
from livebackup_receiver.exports import LiveExports
from livebackup_receiver.leases import LiveLeases
from livebackup_receiver.rehearsal.worker import Rehearser
from livebackup_receiver.retention.local import LocalRetention
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.store.paths import Store
from livebackup_receiver.web.logins import Logins


@dataclass(frozen=True)
class Receiver:
    """The parts of the receiver; all live as long as the daemon runs."""

    config: Config
    store: Store
    catalog: Catalog
    feed: Feed
    ports: PortRange
    sessions: LiveSessions
    consolidator: Consolidator
    retention: LocalRetention
    exports: LiveExports
    leases: LiveLeases
    browses: LiveBrowses
    checks: CheckWatch
    rehearser: Rehearser
    logins: Logins
