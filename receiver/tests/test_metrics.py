# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures for Prometheus, as a scraper parses them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from damaging import flip
from hypervisor import open_session
from prometheus_client.parser import text_string_to_metric_families
from sample_records import point, session
from sample_store import SampleStore, Write
from serving import Served

from livebackup_receiver.catalog.points import add_point
from livebackup_receiver.catalog.sessions import save_session
from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.model import Role, SessionState
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.finding import Result

Samples = dict[tuple[str, ...], float]


async def scrape(server: Served) -> Samples:
    """Each sample's value by its name and the values of its labels."""
    async with server.client(Role.READ) as client:
        text = (await client.get("/metrics")).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_sessions_and_points_are_counted_by_group(server: Served) -> None:
    made_at = datetime.now(UTC) - timedelta(hours=1)
    with server.receiver.catalog.write() as db:
        add_point(db, point(made_at))
        save_session(db, session(SessionState.COMMITTED, opened_at=made_at))
        save_session(db, session(SessionState.ABORTED, opened_at=made_at + timedelta(minutes=5)))
        save_session(db, session(SessionState.ABORTED, opened_at=made_at + timedelta(minutes=9)))
    samples = await scrape(server)
    assert samples["livebackup_sessions_total", "nightly", "committed"] == 1
    assert samples["livebackup_sessions_total", "nightly", "aborted"] == 2
    assert samples["livebackup_points", "nightly"] == 1
    assert samples["livebackup_dropped_points", "nightly"] == 0
    assert samples["livebackup_stored_bytes", "nightly"] == 1 << 20
    assert samples["livebackup_sent_bytes_total", "nightly"] == 1 << 20
    assert 3600 <= samples["livebackup_last_point_age_seconds", "nightly"] < 3700


async def test_running_sessions_are_shown_with_their_state(server: Served) -> None:
    async with server.client(Role.BACKUP) as client:
        await open_session(client, ["hv1"])
        assert (await scrape(server))["livebackup_running_session", "nightly", "joining"] == 1


async def test_a_group_without_a_point_has_no_age(server: Served) -> None:
    with server.receiver.catalog.write() as db:
        save_session(db, session(SessionState.ABORTED))
    samples = await scrape(server)
    assert ("livebackup_last_point_age_seconds", "nightly") not in samples


async def test_the_store_and_the_checks_are_measured(server: Served) -> None:
    await server.receiver.checks.run()
    samples = await scrape(server)
    assert samples["livebackup_store_free_bytes",] > 0
    assert samples["livebackup_check", "store"] == 0


async def test_the_room_of_volumes_is_measured(server: Served) -> None:
    store = server.receiver.store
    SampleStore(store.root, server.receiver.catalog).add({("db", "vd-a"): [Write(0, 1 << 20, 1)]})
    samples, volume = await scrape(server), str(store.root)
    assert samples["livebackup_volume_used_bytes", volume] >= 1 << 20
    assert samples["livebackup_volume_growth_bytes_per_day", volume] > 0
    assert samples["livebackup_volume_days_left", volume] > 0
    assert samples["livebackup_volume_freeable_bytes", volume] == 0


async def test_layers_are_counted_by_what_reading_them_has_shown(server: Served) -> None:
    sample = SampleStore(server.receiver.store.root, server.receiver.catalog)
    made = [sample.add({("db", "vd-a"): [Write(0, 65536, value)]}) for value in (1, 2, 3)]
    flip(sample.layer(made[0]), 0)
    for each in made[:2]:
        layer = Scrubbed("db", "vd-a", each.id, server.receiver.store, server.receiver.catalog)
        scrub_layer(layer, at_once, now=datetime.now(UTC) - timedelta(hours=2))
    samples = await scrape(server)
    counted = {result: samples["livebackup_layers", result] for result in (*Result, "never")}
    assert counted == {"good": 1, "damaged": 1, "unreadable": 0, "never": 1}
    assert 7200 <= samples["livebackup_oldest_layer_check_age_seconds",] < 7300
