# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a group as people see it, in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from browsing import Visitor
from held_points import DAY, hold
from playwright.async_api import expect

from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.model import Role
from livebackup_receiver.retention.policy import RetentionPolicy

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def catalog(visitor: Visitor) -> Catalog:
    """That of the receiver which serves the page."""
    return visitor.server.receiver.catalog


async def visit(visitor: Visitor, path: str = "/groups/nightly", role: Role = Role.READ) -> None:
    await visitor.log_in(role)
    await visitor.page.goto(visitor.server.url + path)


async def test_the_status_page_leads_to_the_group(visitor: Visitor, catalog: Catalog) -> None:
    hold(catalog, 1)
    await visitor.log_in(Role.MANAGE)
    await visitor.page.locator("#groups").get_by_role("link", name="nightly").click()
    await expect(visitor.page).to_have_title("Group nightly - Livebackup")


async def test_every_point_has_a_verdict_and_its_reasons(visitor: Visitor, catalog: Catalog) -> None:
    made = hold(catalog, 4)
    retention = visitor.server.receiver.retention
    retention.declare("group:nightly", RetentionPolicy(keep_last=1, daily=2))
    retention.pin(made[3].id, "before the <upgrade>", None)
    await visit(visitor)
    policies = visitor.page.get_by_role("list", name="Policies")
    await expect(policies).to_contain_text("group:nightly last 1, 2 daily (UTC), at least 1")
    await expect(visitor.page.locator("h1 + .badge, h1 ~ .badge").first).to_have_text("1 to drop")
    row = visitor.page.locator("tr[id^=verdict]")
    assert await row.count() == 4
    await expect(row.nth(0)).to_contain_text("newest complete point")
    await expect(row.nth(1)).to_contain_text(f"daily {made[1].cut_at:%Y-%m-%d}")
    await expect(row.nth(2)).to_contain_text("drop no rule")
    await expect(row.nth(3)).to_contain_text("keep pinned: before the <upgrade>")


async def test_without_a_policy_it_is_said_how_to_declare_one(visitor: Visitor, catalog: Catalog) -> None:
    hold(catalog, 2)
    await visit(visitor)
    main = visitor.page.locator("main")
    await expect(main).to_contain_text("every point is kept")
    await expect(main).to_contain_text("retention set group:nightly --daily 7")


async def test_what_there_will_be_is_drawn_and_told(visitor: Visitor, catalog: Catalog) -> None:
    hold(catalog, 10)
    visitor.server.receiver.retention.declare("group:nightly", RetentionPolicy(daily=7))
    await visit(visitor)
    forecast = visitor.page.get_by_role("region", name="Forecast")
    await expect(forecast.get_by_role("img")).to_be_visible()
    await expect(forecast).to_contain_text("backups every 1d")
    await expect(forecast.locator("tbody tr").last).to_contain_text("7")
    await expect(forecast).to_contain_text("At most 10.0 MiB")
    await visitor.page.get_by_label("Schedule").fill("every 12h")
    await visitor.page.get_by_label("Until").fill(f"{datetime.now(UTC) + 20 * DAY:%Y-%m-%d}")
    await visitor.page.get_by_role("button", name="Simulate").click()
    await expect(forecast).to_contain_text("backups every 12h")


async def test_a_schedule_that_is_none_is_explained(visitor: Visitor, catalog: Catalog) -> None:
    hold(catalog, 2)
    await visit(visitor, "/groups/nightly?schedule=now+and+then")
    alert = visitor.page.get_by_role("alert")
    await expect(alert).to_contain_text("'now and then' is not a schedule; write \"every 1h\"")
    await visitor.page.goto(visitor.server.url + "/groups/nightly?until=soon")
    await expect(alert).to_contain_text("'soon' is not a date; write one such as 2027-01-01.")


async def test_a_group_that_does_not_exist_is_explained(visitor: Visitor) -> None:
    await visit(visitor, "/groups/weekly")
    await expect(visitor.page.get_by_role("alert")).to_contain_text("has never been backed up here")
    visitor.complaints.clear()


async def test_who_is_not_logged_in_is_led_to_the_login(visitor: Visitor) -> None:
    await visitor.page.goto(visitor.server.url + "/groups/nightly")
    await expect(visitor.page).to_have_url(f"{visitor.server.url}/login")


async def test_pins_and_locks_are_shown_with_the_point(visitor: Visitor, catalog: Catalog) -> None:
    newest, oldest = hold(catalog, 2)
    retention = visitor.server.receiver.retention
    until = datetime(2100, 1, 1, tzinfo=UTC)
    retention.pin(oldest.id, "for the auditors", until)
    retention.lock(oldest.id, until)
    await visit(visitor, "/")
    shown = visitor.page.locator(f"#point-{oldest.id} summary")
    await expect(shown.locator(".badge")).to_have_text(["pinned", "locked"])
    await expect(visitor.page.locator(f"#point-{newest.id} summary .badge")).to_have_count(0)
    await visitor.page.goto(f"{visitor.server.url}/points/{oldest.id}")
    main = visitor.page.locator("main")
    await expect(main).to_contain_text("Pinned: for the auditors, until 2100-01-01 00:00:00")
    await expect(main).to_contain_text("Locked until 2100-01-01 00:00:00")
    await main.get_by_role("link", name="why it is kept").click()
    await expect(visitor.page.locator(f"#verdict-{oldest.id}")).to_contain_text("locked until 2100-01-01")


@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_is_wider_than_the_window(visitor: Visitor, catalog: Catalog, width: int) -> None:
    made = hold(catalog, 30)
    visitor.server.receiver.retention.declare("group:nightly", RetentionPolicy(daily=7, weekly=3))
    visitor.server.receiver.retention.pin(made[1].id, "x" * 200, None)
    await visitor.page.set_viewport_size({"width": width, "height": 800})
    await visitor.log_in()
    for path in ("/", "/groups/nightly", f"/points/{made[1].id}"):
        await visitor.page.goto(visitor.server.url + path)
        if "groups" in path:
            await expect(
                visitor.page.get_by_role("region", name="Forecast").get_by_role("img")
            ).to_be_visible()
        assert await visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
