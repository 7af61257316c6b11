# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about what is kept, beside a receiver that runs, and without one."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import Result, run_command
from held_points import DAY, HOUR, hold, make_directories
from receiver_process import on_free_port, receiver_process, write_config

from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import Catalog, open_catalog
from livebackup_receiver.catalog.points import list_points
from livebackup_receiver.catalog.schema import PointRow
from livebackup_receiver.config import Config
from livebackup_receiver.decisions import drop_points, lock_point
from livebackup_receiver.leases import take_lease
from livebackup_receiver.model import Point
from livebackup_receiver.store.lock import hold_store
from livebackup_receiver.store.paths import Store

# Each command is a Python that starts anew.
pytestmark = pytest.mark.timeout(300)

Cli = Callable[..., Awaitable[Result]]


@pytest.fixture
def config(config: Config) -> Config:
    return on_free_port(config)


@pytest.fixture(params=["running", "none"])
async def cli(config: Config, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cli]:
    """Runs a command of `retention`, beside a receiver and without one."""
    path = write_config(config, tmp_path / "receiver.toml")

    async def run(*arguments: str) -> Result:
        return await run_cli(path, *arguments)

    if request.param == "none":
        yield run
        return
    async with receiver_process(config):
        yield run


async def run_cli(path: Path, *arguments: str) -> Result:
    return await run_command(path, "retention", *arguments)


def ids(catalog: Catalog) -> list[str]:
    with catalog.read() as db:
        return [each.id for each in list_points(db)]


async def test_from_a_policy_to_the_drop(cli: Cli, catalog: Catalog) -> None:
    made = hold(catalog, 5, vms=("web", "db"))
    declared = await cli("set", "group:nightly", "--daily", "3", "--keep-last", "1")
    assert "group:nightly: last 1, 3 daily (UTC), at least 1" in declared.words
    assert "2 will be dropped when retention is applied next" in declared.words
    assert made[3].id in declared.words
    listed = (await cli("policies", "--json")).json["policies"]
    assert [(each["scope"], each["policy"]["daily"]) for each in listed] == [("group:nightly", 3)]
    plan = await cli("plan", "nightly")
    for words in (
        "db, web keep newest point, newest complete point, last 1 (1st), daily ",
        "3 kept, 2 to drop",
    ):
        assert words in plan.words
    assert f"{made[4].id} {made[4].cut_at:%Y-%m-%d %H:%M:%S} db, web drop no rule keeps it" in plan.words
    dry = await cli("apply", "nightly", "--dry-run")
    assert f"{made[4].id} would be dropped" in dry.words
    assert ids(catalog) == [each.id for each in made]
    applied = (await cli("apply", "nightly", "--json")).json
    assert applied == {"group": "nightly", "dropped": [made[3].id, made[4].id], "kept": 3}
    assert ids(catalog) == [each.id for each in made[:3]]
    unset = await cli("unset", "group:nightly")
    assert "group:nightly: no policy no point is dropped by that now" in unset.words
    assert "no policy" in (await cli("plan", "nightly")).words


async def test_pins_locks_and_drops(cli: Cli, catalog: Catalog) -> None:
    made = hold(catalog, 3)
    tomorrow = f"{datetime.now(UTC) + DAY:%Y-%m-%d}"
    pinned = await cli("pin", made[2].id, "--reason", "before the upgrade", "--until", tomorrow)
    assert pinned.words == f"point {made[2].id}: pinned until {tomorrow}T00:00:00.000Z: before the upgrade"
    locked = (await cli("lock", made[1].id, "--until", tomorrow, "--json")).json
    assert locked["locked_until"] == f"{tomorrow}T00:00:00.000Z"
    for point, why in ((made[2], "it is pinned (before the upgrade)"), (made[1], "it is locked until")):
        kept = await cli("drop", point.id)
        assert (kept.code, why in kept.refusal) == (6, True)
    assert (await cli("unpin", made[2].id)).words == f"point {made[2].id}: neither pinned nor locked"
    assert (await cli("drop", made[2].id, "--json")).json == {"dropped": [made[2].id]}
    assert ids(catalog) == [made[0].id, made[1].id]
    again = await cli("drop", made[2].id)
    assert (again.code, again.refusal.startswith(f"point {made[2].id} does not exist")) == (5, True)


async def test_the_future_month_by_month_and_on_a_date(cli: Cli, catalog: Catalog) -> None:
    hold(catalog, 10, HOUR)
    await cli("set", "group:nightly", "--hourly", "24", "--daily", "7")
    until = f"{datetime.now(UTC) + 70 * DAY:%Y-%m-%d}"
    arguments = ("simulate", "nightly", "--schedule", "every 1h", "--until", until)
    facts = (await cli(*arguments, "--on", until, "--json")).json
    shown = await cli(*arguments, "--on", until)
    tried = (await cli("simulate", "nightly", "--on", until, "--keep-last", "3", "--json")).json
    assert facts["steps"][-1]["count"] == len(facts["on"]) == 29
    assert facts["on"][0]["id"] is None
    assert "group:nightly: 24 hourly, 7 daily (UTC), at least 1 Backups every 1h" in shown.words
    assert "Date (UTC) Points Size (estimated)" in shown.words
    assert f"On {until} 00:00:00 there are 29 points:" in shown.words
    assert "Disk vd-a of VM db has no increment yet" in shown.words
    assert (tried["schedule"], len(tried["on"])) == ("every 1h", 3)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plan", "weekly"], 5, "group weekly has never been backed up here"),
        (["set", "nightly", "--daily", "7"], 7, "'nightly' is not a scope; write \"group:<group>\""),
        (["set", "group:nightly"], 7, "a policy needs a rule, such as daily: 7"),
        (["set", "group:nightly", "--keep-within", "soon"], 7, "'soon' is not a duration; write a number"),
        (["unset", "group:nightly"], 5, "there is no policy for group:nightly"),
        (["simulate", "nightly", "--schedule", "often"], 7, "'often' is not a schedule; write"),
        (["simulate", "nightly", "--until", "soon"], 7, "'soon' is not a date; write 2027-01-01"),
        (
            ["lock", "01BX5ZZKBKACTAV9WEVGEMMVRZ", "--until", "2020-01-01"],
            7,
            "a lock cannot end at 2020-01-01",
        ),
        (["drop", "../x"], 5, ""),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_sentence(
    config: Config, catalog: Catalog, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    make_directories(config.store, hold(catalog, 1))
    path = write_config(config, tmp_path / "receiver.toml")
    alone = await run_cli(path, *arguments)
    async with receiver_process(config):
        beside = await run_cli(path, *arguments)
    assert (alone.code, beside.code) == (code, code)
    assert alone.refusal.startswith(words)
    assert beside.refusal.startswith(words)


async def test_no_token_is_left(cli: Cli, config: Config) -> None:
    await cli("policies")
    with open_catalog(config.database_url) as catalog, catalog.read() as db:
        assert tokens.every(db) == []


async def test_what_a_killed_receiver_left_counts(config: Config, catalog: Catalog, tmp_path: Path) -> None:
    """The store knows a lock and a drop that the catalog has not got any more."""
    made = hold(catalog, 3)
    store = Store(config.store)
    lock_point(catalog, store, made[1].id, until=datetime.now(UTC) + DAY)
    drop_points(catalog, store, [made[2].id], now=datetime.now(UTC))
    _forget(catalog, made)
    path = write_config(config, tmp_path / "receiver.toml")
    refused = await run_cli(path, "drop", made[1].id)
    assert (refused.code, "it is locked until" in refused.refusal) == (6, True)
    assert ids(catalog) == [made[0].id, made[1].id]


async def test_a_store_that_another_process_holds_is_left_alone(
    config: Config, catalog: Catalog, tmp_path: Path
) -> None:
    (point,) = hold(catalog, 1)
    path = write_config(config, tmp_path / "receiver.toml")
    with hold_store(config.store):
        refused = await run_cli(path, "drop", point.id)
    assert (refused.code, "no receiver answers at 127.0.0.1" in refused.refusal) == (3, True)
    assert ids(catalog) == [point.id]


async def test_policies_and_pins_outlive_a_kill(config: Config, catalog: Catalog, tmp_path: Path) -> None:
    made = hold(catalog, 3)
    make_directories(config.store, made)
    path = write_config(config, tmp_path / "receiver.toml")
    async with receiver_process(config) as receiver:
        await run_cli(path, "set", "group:nightly", "--keep-last", "1")
        await run_cli(path, "pin", made[1].id, "--reason", "why")
        await receiver.end(signal.SIGKILL)
    async with receiver_process(config):
        plan = (await run_cli(path, "plan", "nightly", "--json")).json
    kept = {each["point"]: each["rules"] for each in plan["verdicts"]}
    assert kept[made[1].id] == ["pinned: why"]
    assert made[2].id not in kept


def _forget(catalog: Catalog, points: list[Point]) -> None:
    """Bring the catalog back to what it was before any decision."""
    with catalog.write() as db:
        for point in points:
            row = db.get(PointRow, point.id)
            assert row is not None
            row.locked_until = row.dropped_at = None


async def test_leases_are_listed_and_released(cli: Cli, catalog: Catalog, config: Config) -> None:
    point = hold(catalog, 1)[0]
    month = timedelta(days=30)
    lease, dummy = take_lease(
        catalog, Store(config.store), point=point.id, vm="db", disks=None, holder="hv1", ttl=month
    )
    assert "it is in use by an instant restore of db on hv1" in (await cli("drop", point.id)).err
    path = config.store.parent / "receiver.toml"
    listed = (await run_command(path, "lease", "list", "--json")).json["leases"]
    assert [(each["id"], each["holder"]) for each in listed] == [(lease.id, "hv1")]
    assert "secret_digest" not in listed[0]
    assert (await run_command(path, "lease", "release", lease.id)).code == 0
    again = await run_command(path, "lease", "release", lease.id)
    assert (again.code, "was released or has expired" in again.err) == (5, True)
    assert ids(catalog) == [point.id]
