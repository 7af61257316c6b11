# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a point as people find them in a browser."""

from __future__ import annotations

from pathlib import Path

import guest_disks
import pytest
from browsing import Visitor
from playwright.async_api import expect
from sample_store import KIB, SampleStore, Write
from serving import Served, make_token

from livebackup_receiver.browse.names import shown
from livebackup_receiver.model import Role
from livebackup_receiver.web.trail import Step, below, trail_of

# A browser and a guest without KVM, on a small machine.
pytestmark = pytest.mark.timeout(600)
START_MS = 400_000


async def test_a_file_is_found_and_downloaded(visitor: Visitor, tmp_path: Path) -> None:
    receiver, page = visitor.server.receiver, visitor.page
    tree = guest_disks.make_tree(tmp_path / "tree")
    sample = SampleStore(receiver.store.root, receiver.catalog)
    point = guest_disks.add_disks(sample, {"vd-a": guest_disks.ext4(tmp_path / "image", tree)})
    await visitor.log_in(Role.RESTORE)
    await page.goto(f"{visitor.server.url}/points/{point.id}")
    await page.get_by_role("link", name="Look at its files").click()
    await expect(page.get_by_role("progressbar", name="Opening the disks")).to_be_visible()
    await page.get_by_role("link", name="sda", exact=True).click(timeout=START_MS)
    for name in (guest_disks.SCRIPT, guest_disks.NEWLINE, guest_disks.ODD, guest_disks.BIDI):
        await expect(page.get_by_role("rowheader", name=shown(name), exact=True)).to_be_visible()
    await expect(page.get_by_role("row", name="upwards")).to_contain_text(
        "leads to ../../../../../../etc/hosts"
    )
    await page.get_by_role("link", name="etc", exact=True).click()
    async with page.expect_download() as started:
        await page.get_by_role("link", name="Download random").click()
    download = await started.value
    assert download.suggested_filename == "random"
    assert Path(await download.path()).read_bytes() == (tree / "etc" / "random").read_bytes()
    directory = page.get_by_role("navigation", name="Directory")
    await expect(directory).to_have_text("sda / etc")
    await directory.get_by_role("link", name="sda").click()
    await page.get_by_role("link", name="many", exact=True).click()
    await page.get_by_role("link", name="Further entries, from 501 on").click()
    await expect(page.get_by_role("rowheader", name="00500")).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    await expect(page).to_have_url(f"{visitor.server.url}/points/{point.id}")
    assert receiver.browses.find(point.id, "db") is None


@pytest.mark.parametrize("role", [Role.READ, Role.MANAGE])
async def test_only_the_role_restore_sees_files(server: Served, role: Role) -> None:
    sample = SampleStore(server.receiver.store.root, server.receiver.catalog)
    point = sample.add({("db", "vd-a"): [Write(0, KIB, 1)]})
    here = f"/points/{point.id}/files/db"
    async with server.client(None) as client:
        assert (await client.get(here)).status_code == 401
        await client.post("/login", data={"token": make_token(server.receiver.catalog, role)})
        answers = [await client.get(here + each) for each in ("", "/state", "/content?file_system=sda")]
        answers += [await client.post(here + each) for each in ("/open", "/close")]
    assert {answer.status_code for answer in answers} == {403}
    assert "use a token with the role restore" in answers[0].text


def test_a_trail_leads_to_a_directory() -> None:
    assert trail_of("/") == []
    assert trail_of("/a/b") == [Step("a", "/a"), Step("b", "/a/b")]
    assert (below("/", "a"), below("/a", "b")) == ("/a", "/a/b")
