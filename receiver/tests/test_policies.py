# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies are in the store first; the catalog may be lost, or behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_records import NOW

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.policies import load_policies, save_policies
from livebackup_receiver.config import Config
from livebackup_receiver.errors import PolicyUnknown
from livebackup_receiver.policies import declare_policy, recover_policies, withdraw_policy
from livebackup_receiver.retention.policy import RetentionPolicy, Scope
from livebackup_receiver.store.paths import Store

SCOPE = Scope.parse("group:nightly")
DAILY = RetentionPolicy(daily=7)


def listed(catalog: Catalog) -> list[tuple[str, RetentionPolicy]]:
    with catalog.read() as db:
        return [(each.scope, each.policy) for each in load_policies(db)]


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.store)


def test_a_new_catalog_has_the_policies_of_the_store(catalog: Catalog, store: Store, tmp_path: Path) -> None:
    declare_policy(catalog, store, SCOPE, DAILY, now=NOW)
    with open_catalog(f"sqlite:///{tmp_path}/new.sqlite3") as other:
        assert listed(other) == []
        recover_policies(other, store)
        assert listed(other) == listed(catalog) == [("group:nightly", DAILY)]


def test_a_kill_between_store_and_catalog_leaves_what_was_declared(catalog: Catalog, store: Store) -> None:
    declare_policy(catalog, store, SCOPE, RetentionPolicy(daily=30), now=NOW)
    with catalog.read() as db:
        before = load_policies(db)
    declare_policy(catalog, store, SCOPE, DAILY, now=NOW)
    with catalog.write() as db:
        save_policies(db, before)
    recover_policies(catalog, store)
    assert listed(catalog) == [("group:nightly", DAILY)]


def test_a_store_without_policies_drops_nothing(catalog: Catalog, store: Store) -> None:
    declare_policy(catalog, store, SCOPE, DAILY, now=NOW)
    store.policies.unlink()
    recover_policies(catalog, store)
    assert listed(catalog) == []


def test_a_withdrawn_policy_does_not_come_back(catalog: Catalog, store: Store) -> None:
    declare_policy(catalog, store, SCOPE, DAILY, now=NOW)
    withdraw_policy(catalog, store, SCOPE)
    recover_policies(catalog, store)
    assert listed(catalog) == []
    with pytest.raises(PolicyUnknown, match="there is no policy for group:nightly"):
        withdraw_policy(catalog, store, SCOPE)


def test_what_cannot_be_written_is_not_declared(catalog: Catalog, store: Store) -> None:
    store.policies.mkdir()
    with pytest.raises(OSError, match=r"policies\.json"):
        declare_policy(catalog, store, SCOPE, DAILY, now=NOW)
    assert listed(catalog) == []
