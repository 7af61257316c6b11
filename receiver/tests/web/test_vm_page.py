# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a VM, which shows its points as a tree."""

from __future__ import annotations

import pytest
from browsing import Visitor
from playwright.async_api import expect
from sample_store import KIB, SampleStore, Write

# A browser on a small machine.
pytestmark = pytest.mark.timeout(180)
DB = ("db", "vd-a")


async def test_a_vm_that_was_restored_to_an_older_point_shows_two_heads(visitor: Visitor) -> None:
    receiver = visitor.server.receiver
    store = SampleStore(receiver.store.root, receiver.catalog)
    first = store.add({DB: [Write(0, 64 * KIB, 1)]})
    then = store.content[DB]
    second = store.add({DB: [Write(0, 64 * KIB, 2)]})
    store.restored(first, then)
    third = store.add({DB: [Write(64 * KIB, 64 * KIB, 3)]})
    await visitor.log_in()
    await visitor.page.get_by_role("link", name="db", exact=True).click()
    await expect(visitor.page.get_by_role("heading", name="vd-a")).to_contain_text("2 heads")
    rows = visitor.page.locator("tbody tr")
    await expect(rows).to_have_count(3)
    for row, point, head in ((0, third, True), (1, second, True), (2, first, False)):
        await expect(rows.nth(row)).to_contain_text(point.id)
        await expect(rows.nth(row).locator(".badge")).to_have_count(int(head))
    await rows.nth(1).get_by_role("link").click()
    await expect(visitor.page).to_have_url(f"{visitor.server.url}/points/{second.id}")
