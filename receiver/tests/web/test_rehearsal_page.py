# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages of a point, a group and a rehearsal say of rehearsals."""

from __future__ import annotations

import struct
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from browsing import Visitor
from playwright.async_api import expect
from sample_records import new_id
from sample_store import SampleStore, Write

from livebackup_receiver.clock import now
from livebackup_receiver.model import Outcome, Point
from livebackup_receiver.recovery.declared import read_plan
from livebackup_receiver.recovery_plans import declare_plan
from livebackup_receiver.rehearsal.conduct import record
from livebackup_receiver.rehearsal.result import CheckResult, MemberResult, Rehearsal

# A browser on a small machine.
pytestmark = pytest.mark.timeout(180)

HOSTILE = "<script>document.title = 'mine'</script>"


def picture() -> bytes:
    """A black PNG of 320 by 200."""
    rows = b"".join(b"\0" + bytes(320 * 3) for dummy in range(200))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 320, 200, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (*chunks, (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def rehearse(visitor: Visitor, point: Point, outcome: Outcome, reason: str | None) -> Rehearsal:
    """Keep a rehearsal of two VMs, of which the first fails if that is the outcome."""
    db = MemberResult(
        vm="db",
        outcome=outcome,
        reason=reason,
        ready_s=None if outcome is Outcome.FAILED else 12.25,
        checks=[CheckResult(name="accepts queries", passed=outcome is Outcome.PASSED, seconds=1.5)],
        console_tail=["Booting from Hard Disk...", HOSTILE],
        console=True,
        screenshot=True,
    )
    app = MemberResult(vm="app", outcome=Outcome.NOT_STARTED, reason="it comes after db, which failed")
    result = Rehearsal(
        id=new_id(now()),
        group=point.group,
        point=point.id,
        vms=["app", "db"],
        whole=True,
        outcome=outcome,
        reason=reason and f"db: {reason}",
        accelerator="tcg",
        started_at=now() - timedelta(minutes=5),
        ended_at=now(),
        members=[db, app] if outcome is Outcome.FAILED else [db],
    )
    logs = {"db.console": f"Booting\n{HOSTILE}\n".encode(), "db.png": picture()}
    receiver = visitor.server.receiver
    record(receiver.catalog, receiver.store, result, logs, most=30)
    return result


@pytest.fixture
def point(visitor: Visitor) -> Point:
    receiver = visitor.server.receiver
    return SampleStore(receiver.store.root, receiver.catalog).add({("db", "vd-a"): [Write(0, 65536, 1)]})


async def test_point_and_group_say_how_they_were_rehearsed(visitor: Visitor, point: Point) -> None:
    await visitor.log_in()
    for path in (f"/points/{point.id}", f"/groups/{point.group}"):
        await visitor.page.goto(visitor.server.url + path)
        await expect(visitor.page.locator("main")).to_contain_text("never")
    for outcome, reason, words in (
        (Outcome.PASSED, None, "passed"),
        (Outcome.COULD_NOT_RUN, "bwrap is not installed", "could not run"),
        (Outcome.FAILED, "it did not boot", "failed"),
    ):
        result = rehearse(visitor, point, outcome, reason)
        for path in (f"/points/{point.id}", f"/groups/{point.group}"):
            await visitor.page.goto(visitor.server.url + path)
            await expect(visitor.page.locator(".badge", has_text=words)).to_be_visible()
            link = visitor.page.get_by_role("link", name="what it showed")
            await expect(link).to_have_attribute("href", f"/rehearsals/{result.id}")
            await expect(visitor.page.locator("main")).to_contain_text(reason or "passed")


async def test_the_group_says_when_it_is_rehearsed_next_and_in_which_order(
    visitor: Visitor, point: Point
) -> None:
    receiver = visitor.server.receiver
    content = {"members": [{"vm": "db"}, {"vm": "app", "after": ["db"]}], "schedule": "every 1w"}
    declare_plan(receiver.catalog, receiver.store, point.group, read_plan(content), now=now())
    await visitor.log_in()
    await visitor.page.goto(f"{visitor.server.url}/groups/{point.group}")
    main = visitor.page.locator("main")
    await expect(main).to_contain_text("The next one is due at")
    await expect(main).to_contain_text("Brought up: db, then app")


async def test_a_rehearsal_shows_consoles_as_words_and_displays_as_pictures(
    visitor: Visitor, point: Point, tmp_path: Path
) -> None:
    result = rehearse(visitor, point, Outcome.FAILED, "it did not boot")
    await visitor.log_in()
    await visitor.page.goto(f"{visitor.server.url}/rehearsals/{result.id}")
    await expect(visitor.page.get_by_label("The end of the console of db")).to_contain_text(HOSTILE)
    await expect(visitor.page).to_have_title("Rehearsal of nightly - Livebackup")
    shown = visitor.page.get_by_alt_text("What the display of db showed at last")
    await expect(shown).to_have_js_property("naturalWidth", 320)
    await expect(visitor.page.locator("section").last).to_contain_text("it comes after db, which failed")
    await visitor.page.screenshot(path=tmp_path / "rehearsal.png", full_page=True)
    await visitor.page.get_by_role("link", name="All that is kept of the console of db").click()
    await expect(visitor.page.locator("body")).to_contain_text(HOSTILE)
    assert await visitor.page.title() != "mine"
