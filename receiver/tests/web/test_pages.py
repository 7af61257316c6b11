# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as people see it: in a real browser, with real sessions going on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Visitor
from hypervisor import Disk, Hypervisor, back_up_together, open_session
from playwright.async_api import Page, expect
from serving import Served

from livebackup_receiver.catalog import tokens
from livebackup_receiver.model import Role
from livebackup_receiver.web.logins import COOKIE

# A browser, a receiver and qemu-storage-daemons on a small machine.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def hypervisor(server: Served, tmp_path: Path) -> AsyncIterator[Hypervisor]:
    """A host with one VM of one disk that has some data."""
    disk = Disk(tmp_path / "disk")
    disk.write(0, 1 << 20, 1)
    async with server.client() as client:
        yield Hypervisor(client, "hv1", {"db": {"vd-a": disk}})


async def start_transfer(hypervisor: Hypervisor) -> str:
    """Bring a session to its transfer; its id."""
    session = await open_session(hypervisor.client, ["hv1"])
    await hypervisor.join(session)
    await hypervisor.cut(session)
    return session


async def report_progress(hypervisor: Hypervisor, session: str, done: int) -> None:
    progress: dict[str, Any] = {
        "vm": "db",
        "disk": "vd-a",
        "done_bytes": done,
        "total_bytes": 100,
        "sent_bytes": done,
    }
    await hypervisor.step(session, "transferring", {"disks": [progress]}, wait_s=0)


def headline(page: Page, words: str) -> Any:
    return expect(page.get_by_role("heading", level=1, name=words))


async def test_who_is_not_logged_in_is_led_to_the_login(visitor: Visitor) -> None:
    for path in ("/", "/points/x", "/sessions/x"):
        await visitor.page.goto(visitor.server.url + path)
        await expect(visitor.page).to_have_url(f"{visitor.server.url}/login")


@pytest.mark.parametrize("role", [Role.READ, Role.RESTORE])
async def test_readers_may_log_in(visitor: Visitor, role: Role) -> None:
    await visitor.log_in(role)
    await headline(visitor.page, "Ready, and waiting for the first backup").to_be_visible()


async def test_the_cookie_is_out_of_reach_of_scripts_and_is_not_the_token(visitor: Visitor) -> None:
    await visitor.log_in()
    (cookie,) = await visitor.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
        COOKIE,
        True,
        True,
        "Strict",
    )
    assert tokens.PREFIX not in cookie["value"]
    assert await visitor.page.evaluate("document.cookie") == ""


async def test_a_new_receiver_says_what_to_do_first(visitor: Visitor) -> None:
    await visitor.log_in()
    await expect(visitor.page.get_by_text("No group has been backed up yet.")).to_be_visible()
    await expect(visitor.page.get_by_text("There is no restore point yet.")).to_be_visible()


async def test_the_bar_of_a_disk_moves_without_a_reload(visitor: Visitor, hypervisor: Hypervisor) -> None:
    await visitor.log_in()
    await visitor.mark()
    session = await start_transfer(hypervisor)
    meter = visitor.page.get_by_role("progressbar", name="db vd-a")
    await expect(meter).to_have_attribute("value", "0")
    for done in (30, 75):
        await report_progress(hypervisor, session, done)
        await expect(meter).to_have_attribute("value", str(done))
        await expect(meter).to_have_attribute("aria-valuetext", f"{done} percent, transferring")
    await expect(visitor.page.locator("[aria-current=step]")).to_have_text("transferring")
    assert not await visitor.reloaded()


async def test_a_point_appears_with_the_commit_without_a_reload(
    visitor: Visitor, hypervisor: Hypervisor
) -> None:
    await visitor.log_in()
    await visitor.mark()
    point = await back_up_together(hypervisor.client, [hypervisor])
    row = visitor.page.locator(f"#point-{point}")
    await expect(row).to_contain_text("nightly")
    await headline(visitor.page, "The group is protected").to_be_visible()
    await expect(visitor.page).to_have_title("The group is protected - Livebackup")
    await expect(visitor.page.get_by_role("heading", name="Running now")).to_be_hidden()
    assert not await visitor.reloaded()


async def test_a_point_opened_by_keyboard_stays_open_when_the_page_renews_itself(
    visitor: Visitor, hypervisor: Hypervisor
) -> None:
    point = await back_up_together(hypervisor.client, [hypervisor])
    await visitor.log_in()
    await visitor.page.locator(f"#point-{point} summary").press("Enter")
    level = visitor.page.locator(f"#point-{point}").get_by_text("full", exact=False).last
    await expect(level).to_be_visible()
    second = await back_up_together(hypervisor.client, [hypervisor])
    await expect(visitor.page.locator(f"#point-{second}")).to_be_visible()
    await expect(visitor.page.locator(f"#point-{point}")).to_have_attribute("open", "")


async def test_the_room_of_the_store_is_shown(visitor: Visitor, hypervisor: Hypervisor) -> None:
    await back_up_together(hypervisor.client, [hypervisor])
    await visitor.log_in()
    row = visitor.page.locator("#room tbody tr")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text(str(visitor.server.receiver.store.root))
    await expect(row.locator("[data-label='Used by layers']")).to_have_text(re.compile(r"1\.\d MiB"))


async def test_a_failure_and_its_reason_are_shown_without_a_reload(
    visitor: Visitor, hypervisor: Hypervisor
) -> None:
    await visitor.log_in()
    await visitor.mark()
    session = await start_transfer(hypervisor)
    await hypervisor.step(session, "failed", {"reason": "VM db: the scratch directory is full"}, wait_s=0)
    failure = visitor.page.locator("#failures")
    await expect(failure).to_contain_text("the scratch directory is full")
    await expect(visitor.page.locator("#verdict")).to_contain_text("group nightly")
    await expect(visitor.page.locator("#groups").get_by_role("article", name="nightly")).to_contain_text(
        "failed"
    )
    assert not await visitor.reloaded()


async def test_what_a_host_says_is_text_and_never_markup(visitor: Visitor, hypervisor: Hypervisor) -> None:
    session = await start_transfer(hypervisor)
    await hypervisor.step(session, "failed", {"reason": "<img src=x onerror=alert(1)>"}, wait_s=0)
    await visitor.log_in()
    await expect(visitor.page.locator("#failures")).to_contain_text("<img src=x")
    assert await visitor.page.locator("#failures img").count() == 0


async def test_a_session_has_a_timeline_with_reasons(visitor: Visitor, hypervisor: Hypervisor) -> None:
    session = await start_transfer(hypervisor)
    await hypervisor.step(session, "failed", {"reason": "VM db: the scratch directory is full"}, wait_s=0)
    await visitor.log_in()
    await visitor.page.locator("#failures").get_by_role("link", name="nightly").click()
    timeline = visitor.page.locator(".timeline li")
    await expect(timeline.first).to_contain_text("session joining")
    await expect(timeline.filter(has_text="the scratch directory is full").first).to_be_visible()
    await expect(visitor.page.get_by_role("alert")).to_contain_text("the scratch directory is full")


async def test_the_page_of_a_running_session_is_live(visitor: Visitor, hypervisor: Hypervisor) -> None:
    session = await open_session(hypervisor.client, ["hv1"])
    await visitor.log_in()
    await visitor.page.goto(f"{visitor.server.url}/sessions/{session}")
    await visitor.mark()
    await expect(visitor.page.get_by_text("not joined yet")).to_be_visible()
    await hypervisor.join(session)
    await expect(visitor.page.get_by_text("not joined yet")).to_be_hidden()
    await hypervisor.client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "no longer needed"})
    await expect(visitor.page.get_by_role("alert")).to_contain_text("no longer needed")
    assert not await visitor.reloaded()


async def test_a_point_says_how_it_was_made_and_how_to_restore_it(
    visitor: Visitor, hypervisor: Hypervisor
) -> None:
    point = await back_up_together(hypervisor.client, [hypervisor])
    await visitor.log_in()
    await visitor.page.goto(f"{visitor.server.url}/points/{point}")
    content = visitor.page.locator("main")
    for words in (f"restore {point} --vm db", f"vms/db/vd-a/{point}.qcow2", "blake3:", "full", "20 ms"):
        await expect(content).to_contain_text(words)


async def test_what_does_not_exist_is_explained_as_a_page(visitor: Visitor) -> None:
    await visitor.log_in()
    answer = await visitor.page.goto(f"{visitor.server.url}/points/01BX5ZZKBKACTAV9WEVGEMMVRZ")
    assert answer is not None
    assert answer.status == 404
    await expect(visitor.page.get_by_role("alert")).to_contain_text("does not exist")
    visitor.complaints.clear()


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (None, "the token is unknown, revoked or expired"),
        (Role.BACKUP, "has the role backup, which may not do this"),
    ],
)
async def test_a_wrong_token_is_refused_with_a_reason(
    visitor: Visitor, role: Role | None, words: str
) -> None:
    if role is None:
        await visitor.enter("lb_wrong")
    else:
        async with visitor.server.client(role) as client:
            await visitor.enter(client.headers["authorization"].removeprefix("Bearer "))
    await expect(visitor.page.get_by_role("alert")).to_contain_text(words)
    assert await visitor.page.context.cookies() == []
    visitor.complaints.clear()


async def test_after_the_logout_the_cookie_is_worth_nothing(visitor: Visitor) -> None:
    await visitor.log_in()
    cookies = await visitor.page.context.cookies()
    await visitor.page.get_by_role("button", name="Log out").click()
    await expect(visitor.page).to_have_url(re.compile("/login$"))
    await visitor.page.context.add_cookies(cookies)  # type: ignore[arg-type]
    await visitor.page.goto(visitor.server.url)
    await expect(visitor.page).to_have_url(re.compile("/login$"))


@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_is_wider_than_the_window(visitor: Visitor, hypervisor: Hypervisor, width: int) -> None:
    point = await back_up_together(hypervisor.client, [hypervisor])
    session = await start_transfer(hypervisor)
    await visitor.page.set_viewport_size({"width": width, "height": 800})
    await visitor.log_in()
    for path in ("/", f"/points/{point}", f"/sessions/{session}"):
        await visitor.page.goto(visitor.server.url + path)
        assert await visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


async def test_a_page_that_is_cut_off_says_so_until_it_is_live_again(visitor: Visitor) -> None:
    await visitor.log_in()
    warning = visitor.page.get_by_text("Live updates are interrupted")
    await expect(warning).to_be_hidden()
    await visitor.page.context.set_offline(True)
    await expect(warning).to_be_visible()
    await visitor.page.context.set_offline(False)
    await expect(warning).to_be_hidden()
    visitor.complaints.clear()


async def test_a_revoked_token_ends_its_logins(visitor: Visitor) -> None:
    await visitor.log_in()
    with visitor.server.receiver.catalog.write() as db:
        for token in tokens.every(db):
            tokens.revoke(db, token.name)
    await expect(visitor.page).to_have_url(re.compile("/login$"))
    visitor.complaints.clear()
