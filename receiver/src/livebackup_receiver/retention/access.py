# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line's way to retention: through the receiver that runs, or in its place if none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from livebackup_receiver.catalog.engine import open_catalog
from livebackup_receiver.catalog.presence import require_catalog
from livebackup_receiver.config import Config
from livebackup_receiver.decisions import recover_marks
from livebackup_receiver.errors import StoreBusy, StoreFailed
from livebackup_receiver.model import Role
from livebackup_receiver.policies import recover_policies
from livebackup_receiver.retention.local import LocalRetention
from livebackup_receiver.retention.remote import RemoteRetention
from livebackup_receiver.running import connect
from livebackup_receiver.store.lock import hold_store
from livebackup_receiver.store.paths import Store

Retention = LocalRetention | RemoteRetention


@contextmanager
def open_retention(config: Config) -> Iterator[Retention]:
    """Whoever can answer; without a receiver, none can start until the block ends.

    :raise StoreFailed: there is no such store
    :raise CatalogLost: the catalog is empty, and the store is not
    """
    with ExitStack() as stack:
        held = _hold(stack, config)
        catalog = stack.enter_context(open_catalog(config.database_url))
        if held:
            store = Store(config.store)
            require_catalog(catalog, store)
            # a receiver that was killed may have left what only the store knows
            recover_marks(catalog, store)
            recover_policies(catalog, store)
            yield LocalRetention(catalog, store)
        else:
            yield RemoteRetention(stack.enter_context(connect(config, catalog, Role.MANAGE)))


def _hold(stack: ExitStack, config: Config) -> bool:
    """Whether nobody else works in the store, which is ours then."""
    try:
        stack.enter_context(hold_store(config.store))
    except StoreBusy:
        return False
    except OSError as error:
        raise StoreFailed(str(config.store), error.strerror or str(error)) from None
    return True
