# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line's way to recovery plans: through the receiver that runs, or in its place if none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from livebackup_receiver import recovery_plans
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.presence import require_catalog
from livebackup_receiver.catalog.recovery_plans import require_plan
from livebackup_receiver.clock import now
from livebackup_receiver.config import Config
from livebackup_receiver.errors import StoreBusy
from livebackup_receiver.model import Role
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.running import RunningReceiver, connect
from livebackup_receiver.store.lock import hold_store
from livebackup_receiver.store.paths import Store


@dataclass(frozen=True)
class LocalPlans:
    """For the only process that works in the store."""

    catalog: Catalog
    store: Store

    def show(self, group: str) -> DeclaredPlan:
        """:raise RecoveryPlanUnknown: the group has none"""
        with self.catalog.read() as db:
            return require_plan(db, group)

    def declare(self, group: str, plan: RecoveryPlan) -> DeclaredPlan:
        """:raise NameInvalid: it is no name of a group"""
        return recovery_plans.declare_plan(self.catalog, self.store, group, plan, now=now())

    def withdraw(self, group: str) -> None:
        """:raise RecoveryPlanUnknown: the group has none"""
        recovery_plans.withdraw_plan(self.catalog, self.store, group)


@dataclass(frozen=True)
class RemotePlans:
    """As ``LocalPlans``.

    :raise NotRunning: nobody answers
    :raise RequestRefused: what the receiver says
    """

    receiver: RunningReceiver

    def show(self, group: str) -> DeclaredPlan:
        return DeclaredPlan.model_validate(self.receiver.get(_path(group)))

    def declare(self, group: str, plan: RecoveryPlan) -> DeclaredPlan:
        return DeclaredPlan.model_validate(self.receiver.put(_path(group), plan.model_dump(mode="json")))

    def withdraw(self, group: str) -> None:
        self.receiver.delete(_path(group))


@contextmanager
def open_plans(config: Config) -> Iterator[LocalPlans | RemotePlans]:
    """Whoever can answer; without a receiver, none can start until the block ends.

    :raise StoreFailed: there is no such store
    :raise CatalogLost: the catalog is empty, and the store is not
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_store(config.store))
        except StoreBusy:
            catalog = stack.enter_context(open_catalog(config.database_url))
            yield RemotePlans(stack.enter_context(connect(config, catalog, Role.MANAGE)))
            return
        catalog, store = stack.enter_context(open_catalog(config.database_url)), Store(config.store)
        require_catalog(catalog, store)
        # a receiver that was killed may have left what only the store knows
        recovery_plans.recover_plans(catalog, store)
        yield LocalPlans(catalog, store)


def _path(group: str) -> str:
    return f"/groups/{quote(group, safe='')}/recovery-plan"
