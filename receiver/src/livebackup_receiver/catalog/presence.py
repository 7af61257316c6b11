# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a catalog and a store are those that belong together, before anybody believes what either says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from livebackup_receiver.catalog.contents import has_history
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.layers import list_layers
from livebackup_receiver.config import Config
from livebackup_receiver.errors import CatalogLost, StoreFailed
from livebackup_receiver.store.inventory import take_inventory
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.survey import survey


@contextmanager
def open_present(config: Config) -> Iterator[Catalog]:
    """The catalog of a store; not an empty one in the place of another, which would know of no point.

    :raise CatalogLost: it knows no session and no point, and the store holds points
    :raise CatalogFailed: the database cannot be reached or changed
    """
    with open_catalog(config.database_url) as catalog:
        require_catalog(catalog, Store(config.store))
        yield catalog


def require_catalog(catalog: Catalog, store: Store) -> None:
    """Refuse to work with a catalog that has never heard of what is in the store.

    :raise CatalogLost: it knows no session and no point, and the store holds points
    """
    if is_lost(catalog, store):
        raise CatalogLost(catalog.url, str(store.root))


def is_lost(catalog: Catalog, store: Store) -> bool:
    """Whether the catalog knows nothing, or has no tables yet, and the store holds points."""
    if catalog.revision() is not None:
        with catalog.read() as db:
            if has_history(db):
                return False
    return bool(survey(take_inventory(store), store).points)


def require_layers(catalog: Catalog, store: Store) -> None:
    """Refuse to work in an empty store if there should be points in it: its file system is not mounted.

    :raise StoreFailed: the catalog knows layers, and no disk has a directory
    """
    with catalog.read() as db:
        known = len(list_layers(db))
    if known and not store.disks():
        problem = f"none of the {known} layers that the catalog knows is there; is its file system mounted?"
        raise StoreFailed(str(store.root), problem)
