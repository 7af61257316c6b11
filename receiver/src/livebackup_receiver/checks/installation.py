# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what an administrator has installed and configured."""

from __future__ import annotations

import asyncio
from datetime import datetime

from livebackup_receiver import subprocesses
from livebackup_receiver.catalog import revision
from livebackup_receiver.catalog.presence import is_lost
from livebackup_receiver.certificate import read_certificate
from livebackup_receiver.checks.result import Check, Inspection, failed, ok, warning
from livebackup_receiver.errors import CatalogLost, ReceiverError
from livebackup_receiver.store.paths import Store

PROGRAMS = ("qemu-storage-daemon", "qemu-img")
PACKAGES = "the packages qemu-system-common and qemu-utils"
PROGRAM_TIMEOUT_S = 20.0
CERTIFICATE_WARNING_DAYS = 14


async def check_programs(inspection: Inspection) -> list[Check]:
    """One result for each program, under its name."""
    return [await _program(name) for name in PROGRAMS]


async def _program(name: str) -> Check:
    try:
        done = await subprocesses.run([name, "--version"], timeout_s=PROGRAM_TIMEOUT_S)
    except ReceiverError as error:
        return failed(name, f"{error.cause}; install {PACKAGES}")
    return ok(name, done.stdout.splitlines()[0])


async def check_catalog(inspection: Inspection) -> list[Check]:
    """Whether it knows what is in the store, and its tables are those that this version needs."""
    store = Store(inspection.config.store)
    if await asyncio.to_thread(is_lost, inspection.catalog, store):
        return [failed("catalog", str(CatalogLost(inspection.catalog.url, str(store.root))))]
    found, newest = await asyncio.to_thread(inspection.catalog.revision), revision.NEWEST
    if found == newest:
        return [ok("catalog", f"{inspection.catalog.url} has the newest tables ({newest})")]
    shape = f"{inspection.catalog.url} has the tables {found}, this version needs {newest}"
    return [failed("catalog", f"{shape}; start the receiver, which brings them up to date")]


async def check_certificate(inspection: Inspection) -> list[Check]:
    """Whether it belongs to its key, and for how long it is valid."""
    path = inspection.config.tls_certificate
    certificate = await asyncio.to_thread(read_certificate, path, inspection.config.tls_key)
    return [judge_certificate(str(path), certificate.not_after, inspection.now)]


def judge_certificate(path: str, not_after: datetime, now: datetime) -> Check:
    """A certificate that matches its key, by the time it has left; pure."""
    days = (not_after - now).days
    if now >= not_after:
        return failed(
            "certificate", f"{path} expired on {not_after:%Y-%m-%d}; renew it and restart the receiver"
        )
    if days < CERTIFICATE_WARNING_DAYS:
        return warning("certificate", f"{path} ends in {days} days ({not_after:%Y-%m-%d}); renew it")
    return ok("certificate", f"{path} is valid for {days} more days")


async def check_notifications(inspection: Inspection) -> list[Check]:
    """Whether apprise understands every URL; nothing is sent."""
    # Slow to import, and this module is part of every command.
    import apprise

    wrong = [
        number
        for number, url in enumerate(inspection.config.notify_urls, 1)
        if not apprise.Apprise().add(url)
    ]
    if wrong:
        message = f"number {wrong[0]} of notify_urls is no URL that apprise understands; correct it"
        return [failed("notifications", message)]
    count = len(inspection.config.notify_urls)
    return [ok("notifications", f"sent to {count} URLs" if count else "nobody is told of failures")]
