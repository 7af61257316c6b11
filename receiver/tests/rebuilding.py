# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogs made from a store, and compared with it."""

from __future__ import annotations

from pathlib import Path

from livebackup_receiver.catalog.comparison import Difference, compare
from livebackup_receiver.catalog.contents import load_contents
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.rebuild import rebuild
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.consolidation.worker import Consolidation
from livebackup_receiver.model import Point
from livebackup_receiver.store.inventory import take_inventory
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.policies import read_policies
from livebackup_receiver.store.survey import Survey, survey


def rebuilt(root: Path, url: str) -> Survey:
    with open_catalog(url) as catalog:
        return rebuild(catalog, Store(root))


def new_catalog(root: Path) -> str:
    return f"sqlite:///{root}/new.sqlite3"


def ids(points: tuple[Point, ...] | list[Point]) -> list[str]:
    return [point.id for point in points]


def differences(catalog: Catalog, root: Path) -> list[Difference]:
    store = Store(root)
    inventory = take_inventory(store)
    with catalog.read() as db:
        return compare(inventory, survey(inventory, store), read_policies(store), load_contents(db))


def differences_of_new(root: Path) -> list[str]:
    with open_catalog(new_catalog(root)) as catalog:
        return [each.sentence for each in differences(catalog, root)]


def consolidate(root: Path, catalog: Catalog, *, shares: bool = False) -> None:
    work = Consolidation(Store(root), catalog, Abilities(shares=shares, punches=True), max_depth=1)
    for disk in work.waiting():
        work.consolidate(disk, at_once)
