# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page of a point says of reading its disks back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browsing import Visitor
from damaging import CLUSTER, flip
from playwright.async_api import expect
from sample_store import SampleStore, Write

from livebackup_receiver.chain.copying import at_once
from livebackup_receiver.decisions import drop_points
from livebackup_receiver.leases import take_lease
from livebackup_receiver.model import Point
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer

# A browser on a small machine.
pytestmark = pytest.mark.timeout(180)


def scrub(visitor: Visitor, point: Point) -> None:
    receiver = visitor.server.receiver
    scrub_layer(
        Scrubbed("db", "vd-a", point.id, receiver.store, receiver.catalog), at_once, now=datetime.now(UTC)
    )


async def require_shown(visitor: Visitor, point: Point, *words: str) -> None:
    await visitor.page.goto(f"{visitor.server.url}/points/{point.id}")
    disk = visitor.page.locator("article.layer")
    for each in words:
        await expect(disk).to_contain_text(each)


async def test_each_disk_says_whether_it_is_what_it_was(visitor: Visitor) -> None:
    receiver = visitor.server.receiver
    sample = SampleStore(receiver.store.root, receiver.catalog)
    point = sample.add({("db", "vd-a"): [Write(0, 4 * CLUSTER, 1)]})
    await visitor.log_in()
    await require_shown(visitor, point, "Read back", "never")
    scrub(visitor, point)
    await require_shown(visitor, point, "good", "ago")
    flip(sample.layer(point), CLUSTER)
    scrub(visitor, point)
    await require_shown(visitor, point, "damaged", "its bytes do not match their digests")
    table: Path = sample.layer(point).with_suffix(".digests")
    table.unlink()
    scrub(visitor, point)
    await require_shown(visitor, point, "could not read", "digest table")


async def test_a_parent_is_a_link_as_long_as_it_leads_somewhere(visitor: Visitor) -> None:
    receiver = visitor.server.receiver
    sample = SampleStore(receiver.store.root, receiver.catalog)
    parent, child = (sample.add({("db", "vd-a"): [Write(0, CLUSTER, value)]}) for value in (1, 2))
    await visitor.log_in()
    await require_shown(visitor, child, "Parent", parent.id)
    link = visitor.page.get_by_role("link", name=parent.id)
    await link.click()
    await expect(visitor.page).to_have_url(f"{visitor.server.url}/points/{parent.id}")
    drop_points(receiver.catalog, receiver.store, [parent.id], now=datetime.now(UTC))
    await require_shown(visitor, child, "Parent", parent.id)
    await expect(link).to_have_count(0)


async def test_a_point_in_use_says_by_what(visitor: Visitor) -> None:
    receiver = visitor.server.receiver
    point = SampleStore(receiver.store.root, receiver.catalog).add({("db", "vd-a"): [Write(0, CLUSTER, 1)]})
    month = timedelta(days=30)
    take_lease(receiver.catalog, receiver.store, point=point.id, vm="db", disks=None, holder="hv1", ttl=month)
    await visitor.log_in()
    await visitor.page.goto(f"{visitor.server.url}/points/{point.id}")
    words = "In use by an instant restore of db on hv1 since"
    await expect(visitor.page.get_by_text(words)).to_be_visible()
