# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declaring what is to be kept. Policies are in the store first, and then in the catalog.

Nothing is dropped by that: it takes effect when retention is applied next.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.policies import load_policies, save_policies
from livebackup_receiver.decisions import TURN
from livebackup_receiver.errors import PolicyUnknown
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.policies import read_policies, write_policies


def declare_policy(
    catalog: Catalog, store: Store, scope: Scope, policy: RetentionPolicy, *, now: datetime
) -> DeclaredPolicy:
    """Have a policy for a scope, in place of the one that it has; the same one again changes nothing."""
    with TURN:
        known = {each.scope: each for each in _load(catalog)}
        before = known.get(str(scope))
        if before is not None and before.policy == policy:
            return before
        declared = DeclaredPolicy(scope=str(scope), policy=policy, changed_at=now)
        _keep(catalog, store, (known | {declared.scope: declared}).values())
        return declared


def withdraw_policy(catalog: Catalog, store: Store, scope: Scope) -> None:
    """Leave a scope without a policy.

    :raise PolicyUnknown: it has none
    """
    with TURN:
        known = {each.scope: each for each in _load(catalog)}
        if known.pop(str(scope), None) is None:
            raise PolicyUnknown(str(scope))
        _keep(catalog, store, known.values())


def recover_policies(catalog: Catalog, store: Store) -> None:
    """Bring to the catalog what the store alone knows: a kill came between the two, or it is a new catalog.

    :raise ManifestInvalid: the file cannot be read; then nobody may decide what is dropped
    """
    kept = read_policies(store)
    with catalog.write() as db:
        save_policies(db, kept)


def _load(catalog: Catalog) -> list[DeclaredPolicy]:
    with catalog.read() as db:
        return load_policies(db)


def _keep(catalog: Catalog, store: Store, policies: Iterable[DeclaredPolicy]) -> None:
    ordered = sorted(policies, key=lambda each: each.scope)
    write_policies(store, ordered)
    with catalog.write() as db:
        save_policies(db, ordered)
