# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The room of every volume of the store, for the command line, the API, the check and the metrics alike."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.figures import room_of_disks
from livebackup_receiver.config import Config
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.store.outlook import GROWTH_DAYS, DiskRoom, Outlook, by_home, outlook_of
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.volumes import home_of


def outlooks(config: Config, catalog: Catalog, *, now: datetime) -> list[Outlook]:
    """The outlook of the store itself and of each further volume.

    :raise StoreFailed: a volume is not there
    """
    with catalog.read() as db:
        disks = room_of_disks(db, since=now - timedelta(days=GROWTH_DAYS))
    store = Store(config.store)
    homes = {disk: home for disk in disks if (home := home_of(store, config.volumes, disk))}
    there = by_home(disks, homes)
    return [_outlook(root, config, there.get(root, [])) for root in (config.store, *config.volumes)]


def _outlook(volume: Path, config: Config, disks: list[DiskRoom]) -> Outlook:
    try:
        usage = shutil.disk_usage(volume)
    except OSError as error:
        raise StoreFailed(str(volume), error.strerror or str(error)) from None
    return outlook_of(volume, total=usage.total, free=usage.free, reserve=config.min_free_bytes, disks=disks)
