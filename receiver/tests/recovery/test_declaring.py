# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery plans are in the store first; the API and the command line declare, show and withdraw them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run_command
from receiver_process import on_free_port, receiver_process, write_config
from recovery_samples import THREE
from sample_records import NOW
from serving import Served

from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.recovery_plans import load_plans
from livebackup_receiver.config import Config
from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Role
from livebackup_receiver.recovery.declared import DeclaredPlan, read_plan
from livebackup_receiver.recovery_plans import declare_plan, recover_plans, withdraw_plan
from livebackup_receiver.store.paths import Store

PATH = "/api/v1/groups/nightly/recovery-plan"
PLAN = read_plan(THREE)


def listed(catalog: Catalog) -> list[DeclaredPlan]:
    with catalog.read() as db:
        return load_plans(db)


@pytest.fixture
def store(config: Config) -> Store:
    return Store(config.store)


def test_a_new_catalog_has_the_plans_of_the_store(catalog: Catalog, store: Store, tmp_path: Path) -> None:
    declared = declare_plan(catalog, store, "nightly", PLAN, now=NOW)
    with open_catalog(f"sqlite:///{tmp_path}/new.sqlite3") as other:
        recover_plans(other, store)
        assert listed(other) == listed(catalog) == [declared]


def test_a_withdrawn_plan_does_not_come_back(catalog: Catalog, store: Store) -> None:
    declare_plan(catalog, store, "nightly", PLAN, now=NOW)
    withdraw_plan(catalog, store, "nightly")
    recover_plans(catalog, store)
    assert listed(catalog) == []


@pytest.mark.parametrize("content", ["", '{"format_version": 2, "plans": []}'])
def test_a_file_that_is_not_understood_is_named(catalog: Catalog, store: Store, content: str) -> None:
    store.recovery_plans.write_text(content)
    with pytest.raises(ManifestInvalid, match=r"recovery-plans\.json cannot be read"):
        recover_plans(catalog, store)


async def test_a_plan_is_declared_shown_and_withdrawn(server: Served) -> None:
    async with server.client(Role.MANAGE) as client:
        assert (await client.get(PATH)).json()["error"]["code"] == "recovery-plan-unknown"
        declared = (await client.put(PATH, json=THREE)).json()
        assert (await client.put(PATH, json=THREE)).json() == declared
        assert (await client.get(PATH)).json() == declared
        assert (await client.delete(PATH)).status_code == 204
        assert (await client.delete(PATH)).status_code == 404
    assert declared["plan"]["members"][1]["boot"]["memory_mib"] == 1024
    assert declared["plan"]["schedule"] == "daily at 04:00"


async def test_what_a_plan_would_be_is_said_without_declaring_it(server: Served) -> None:
    async with server.client(Role.MANAGE) as client:
        foreseen = (await client.put(PATH, json=THREE, params={"dry_run": True})).json()
        assert (await client.get(PATH)).status_code == 404
        assert (await client.put(PATH, json=THREE)).json()["plan"] == foreseen["plan"]


async def test_what_cannot_be_meant_is_refused(server: Served) -> None:
    async with server.client(Role.MANAGE) as client:
        refused = await client.put(PATH, json={"members": [{"vm": "app", "after": ["db"]}]})
        unusable = await client.put("/api/v1/groups/.x/recovery-plan", json={})
        assert (await client.get(PATH)).status_code == 404
    assert refused.status_code == 422
    assert "VM app comes after db, which is no member of the plan" in refused.json()["error"]["message"]
    assert unusable.json()["error"]["code"] == "name-invalid"


@pytest.mark.parametrize("role", [Role.READ, Role.RESTORE, Role.BACKUP])
async def test_only_who_manages_may_declare(server: Served, role: Role) -> None:
    async with server.client(role) as client:
        assert (await client.put(PATH, json=THREE)).status_code == 403
        assert (await client.delete(PATH)).status_code == 403


@pytest.mark.timeout(300)
@pytest.mark.parametrize("running", [True, False])
async def test_the_command_line_declares_with_a_receiver_and_without(
    config: Config, tmp_path: Path, running: bool
) -> None:
    config = on_free_port(config)
    if not running:
        return await declare_and_look(write_config(config, tmp_path / "receiver.toml"), tmp_path)
    async with receiver_process(config):
        return await declare_and_look(write_config(config, tmp_path / "receiver.toml"), tmp_path)


async def declare_and_look(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yml"
    file.write_text(json.dumps(THREE))
    shown = await run_command(path, "rehearse", "plan", "set", "nightly", str(file))
    assert shown.out.splitlines()[-1] == "# brought up: db, then app, then batch"
    found = await run_command(path, "rehearse", "plan", "show", "nightly", "--json")
    assert found.json["plan"] == PLAN.model_dump(mode="json")
    file.write_text(shown.out)
    again = await run_command(path, "rehearse", "plan", "set", "nightly", str(file), "--json")
    assert again.json == found.json
    file.write_text("members: [{vm: app, after: [db]}]")
    refused = await run_command(path, "rehearse", "plan", "set", "nightly", str(file))
    assert (refused.code, "comes after db" in refused.refusal) == (7, True)
    assert (await run_command(path, "rehearse", "plan", "unset", "nightly")).code == 0
    assert (await run_command(path, "rehearse", "plan", "show", "nightly")).code == 5
