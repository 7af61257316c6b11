# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches the status page in a real headless browser: `python -m demo.page URL TOKEN_FILE SHOTS WANTED`.

Runs on the controller side of the lab. It logs in, waits until the page shows a running session, then
until it shows WANTED points, takes a picture at each, and prints one JSON line of what it saw.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
RUNNING_WITHIN_MS = 120_000
POINTS_WITHIN_MS = 300_000


def watch(page: Page, url: str, token: str, shots: Path, wanted: int) -> dict[str, object]:
    """Log in and follow the page; raises playwright's AssertionError if what it should show never comes."""
    page.goto(url + "/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    running = page.locator("h3[id^=running-]")
    expect(running.first).to_be_visible(timeout=RUNNING_WITHIN_MS)
    seen = (running.first.get_attribute("id") or "").removeprefix("running-")
    expect(page.get_by_role("progressbar").first).to_be_visible(timeout=RUNNING_WITHIN_MS)
    page.screenshot(path=shots / "running.png", full_page=True)
    rows = page.locator("details[id^=point-]")
    expect(rows).to_have_count(wanted, timeout=POINTS_WITHIN_MS)
    expect(running).to_have_count(0, timeout=RUNNING_WITHIN_MS)
    page.screenshot(path=shots / "points.png", full_page=True)
    points = [(row.get_attribute("id") or "").removeprefix("point-") for row in rows.all()]
    return {"running": seen, "points": points}


def main(url: str, token_file: str, shots: str, wanted: str) -> None:
    folder = Path(shots)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        # The lab's CA is known to the hosts, not to the browser's own trust store.
        context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900})
        seen = watch(context.new_page(), url, Path(token_file).read_text().strip(), folder, int(wanted))
        browser.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
