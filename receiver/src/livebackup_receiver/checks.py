# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named checks: can this receiver take backups, and can they be restored?

One list of results for the command line, the API, the page, the metrics and the notifications, so that
they cannot disagree. A check that cannot even be run has failed, and says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

import humanize

from livebackup_receiver import ages, subprocesses
from livebackup_receiver.catalog import groups, layers, revision
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.certificate import read_certificate
from livebackup_receiver.config import Config
from livebackup_receiver.errors import ReceiverError
from livebackup_receiver.model import Group, Model, Session, SessionState
from livebackup_receiver.rooms import outlooks
from livebackup_receiver.scrub import health
from livebackup_receiver.store import durable
from livebackup_receiver.store.format import check_format
from livebackup_receiver.store.manifest import read_manifest
from livebackup_receiver.store.outlook import Outlook
from livebackup_receiver.store.paths import MANIFEST_SUFFIX, Store

log = logging.getLogger(__name__)

PROGRAMS = ("qemu-storage-daemon", "qemu-img")
PACKAGES = "the packages qemu-system-common and qemu-utils"
PROGRAM_TIMEOUT_S = 20.0
CERTIFICATE_WARNING_DAYS = 14
DAYS_WARNED = 3.0
# The coordinator ends a silent session by itself; these are for one that it has lost sight of.
STUCK_AFTER_S = {
    SessionState.JOINING: 3600.0,
    SessionState.TRANSFERRING: 24 * 3600.0,
    SessionState.SEALING: 24 * 3600.0,
}
QUICK_S = 600.0
LAYERS_NAMED = 3


class CheckState(StrEnum):
    """From good to bad."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"

    @property
    def severity(self) -> int:
        """0 ok, 1 warning, 2 failed."""
        return list(CheckState).index(self)


class Check(Model):
    """The result of one check; ``message`` says what is found and, if it is not ok, what to do."""

    name: str
    state: CheckState
    message: str


@dataclass(frozen=True)
class Inspection:
    """What the checks look at; ``open_sessions`` gives the sessions that have not ended."""

    config: Config
    catalog: Catalog
    open_sessions: Callable[[], Sequence[Session]]
    now: datetime


CheckFunction = Callable[[Inspection], Awaitable[list[Check]]]


async def run_checks(inspection: Inspection) -> list[Check]:
    """Every check's results, in a fixed order."""
    return [result for name, check in CHECKS.items() for result in await _run(name, check, inspection)]


def worst(checks: Sequence[Check]) -> CheckState:
    """The worst state of all."""
    return max((check.state for check in checks), key=lambda state: state.severity, default=CheckState.OK)


def _ok(name: str, message: str) -> Check:
    return Check(name=name, state=CheckState.OK, message=message)


def _warning(name: str, message: str) -> Check:
    return Check(name=name, state=CheckState.WARNING, message=message)


def _failed(name: str, message: str) -> Check:
    return Check(name=name, state=CheckState.FAILED, message=message)


async def _run(name: str, check: CheckFunction, inspection: Inspection) -> list[Check]:
    try:
        return await check(inspection)
    except Exception as error:
        # Whatever it is: a check that breaks must be seen as failed, and not end the others.
        log.warning("check %s: %s", name, error, exc_info=not isinstance(error, ReceiverError))
        return [_failed(name, str(error).partition("\n")[0] or type(error).__name__)]


async def _store(inspection: Inspection) -> list[Check]:
    root = inspection.config.store
    probe = root / f".check-{os.getpid()}"
    await asyncio.to_thread(check_format, Store(root))
    try:
        await asyncio.to_thread(_write_and_remove, probe)
    except OSError as error:
        message = (
            f"{root} cannot be written ({error.strerror}); give it to the receiver's user and check its disk"
        )
        return [_failed("store", message)]
    return [_ok("store", f"{root} can be written and synced")]


def _write_and_remove(probe: Path) -> None:
    durable.write_file(probe, b"livebackup\n")
    durable.remove_files([probe])


async def _room(inspection: Inspection) -> list[Check]:
    found = await asyncio.to_thread(outlooks, inspection.config, inspection.catalog, now=inspection.now)
    return [judge_room(each, inspection.config.min_free_bytes) for each in found]


def judge_room(outlook: Outlook, reserve: int) -> Check:
    """One volume by what is free, and by how long that will do."""
    sizes = f"{_size(outlook.free_bytes)} free in {outlook.volume}, {_size(reserve)} must stay free"
    if outlook.growth_bytes_per_day:
        growth = _size(outlook.growth_bytes_per_day)
        sizes += f"; {growth} are stored a day, enough for {outlook.days_left:g} days"
    if outlook.freeable_bytes:
        sizes += f"; up to {_size(outlook.freeable_bytes)} of dropped points come back by themselves"
    if outlook.free_bytes < reserve:
        return _failed("room", f"only {sizes}; free space or make it larger")
    if outlook.free_bytes < 2 * reserve or (outlook.days_left or DAYS_WARNED) < DAYS_WARNED:
        return _warning("room", f"only {sizes}; plan for more space")
    return _ok("room", sizes)


async def _programs(inspection: Inspection) -> list[Check]:
    return [await _program(name) for name in PROGRAMS]


async def _program(name: str) -> Check:
    try:
        done = await subprocesses.run([name, "--version"], timeout_s=PROGRAM_TIMEOUT_S)
    except ReceiverError as error:
        return _failed(name, f"{error.cause}; install {PACKAGES}")
    return _ok(name, done.stdout.splitlines()[0])


async def _catalog(inspection: Inspection) -> list[Check]:
    found, newest = await asyncio.to_thread(inspection.catalog.revision), revision.NEWEST
    if found == newest:
        return [_ok("catalog", f"{inspection.catalog.url} has the newest tables ({newest})")]
    shape = f"{inspection.catalog.url} has the tables {found}, this version needs {newest}"
    return [_failed("catalog", f"{shape}; start the receiver, which brings them up to date")]


async def _certificate(inspection: Inspection) -> list[Check]:
    path = inspection.config.tls_certificate
    certificate = await asyncio.to_thread(read_certificate, path, inspection.config.tls_key)
    return [judge_certificate(str(path), certificate.not_after, inspection.now)]


def judge_certificate(path: str, not_after: datetime, now: datetime) -> Check:
    """A certificate that matches its key, by the time it has left."""
    days = (not_after - now).days
    if now >= not_after:
        return _failed(
            "certificate", f"{path} expired on {not_after:%Y-%m-%d}; renew it and restart the receiver"
        )
    if days < CERTIFICATE_WARNING_DAYS:
        return _warning("certificate", f"{path} ends in {days} days ({not_after:%Y-%m-%d}); renew it")
    return _ok("certificate", f"{path} is valid for {days} more days")


async def _layers(inspection: Inspection) -> list[Check]:
    found = await asyncio.to_thread(_list_layers, inspection.catalog)
    problems = await asyncio.to_thread(_layer_problems, inspection.config.store, found)
    if not problems:
        message = f"all {len(found)} layers are there, each with the size its manifest says"
        return [_ok("layers", message)]
    named = ", ".join(problems[:LAYERS_NAMED])
    more = f" and {len(problems) - LAYERS_NAMED} more" if len(problems) > LAYERS_NAMED else ""
    message = (
        f"{named}{more}; bring the files back from a copy of the store, or points that need them are lost"
    )
    return [_failed("layers", message)]


def _list_layers(catalog: Catalog) -> list[str]:
    with catalog.read() as db:
        return layers.list_layers(db)


def _layer_problems(store: Path, names: Sequence[str]) -> list[str]:
    return [problem for name in names if (problem := _layer_problem(store / name, name))]


def _layer_problem(path: Path, name: str) -> str | None:
    try:
        size = path.stat().st_size
        expected = read_manifest(path.with_suffix(MANIFEST_SUFFIX)).layer_size
    except FileNotFoundError:
        return f"{name} is missing"
    except ReceiverError as error:
        return error.cause
    return None if size == expected else f"{name} has {size:,} bytes instead of {expected:,}"


async def _scrub(inspection: Inspection) -> list[Check]:
    store, options = Store(inspection.config.store), inspection.config
    found = await asyncio.to_thread(
        health.report, inspection.catalog, store, now=inspection.now, days=options.scrub_days
    )
    return [Check(name="scrub", state=CheckState(found.state), message=found.message)]


async def _sessions(inspection: Inspection) -> list[Check]:
    found = inspection.open_sessions()
    stuck = [session for session in found if is_stuck(session, inspection.now)]
    if not stuck:
        return [_ok("sessions", f"{len(found)} open, none is stuck")]
    names = ", ".join(f"session {each.id} of group {each.group} is {each.state}" for each in stuck)
    return [_warning("sessions", f"for too long {names}; abort it, or restart the receiver, which aborts it")]


def is_stuck(session: Session, now: datetime) -> bool:
    """Whether a session has been in its state for longer than that can take."""
    since = max([session.opened_at, *(step.at for step in session.transitions if step.subject == "session")])
    return (now - since).total_seconds() > STUCK_AFTER_S.get(session.state, QUICK_S)


async def _freshness(inspection: Inspection) -> list[Check]:
    found = await asyncio.to_thread(_list_groups, inspection.catalog)
    limit = inspection.config.point_age_warning_s
    return [freshness(group, now=inspection.now, warning_s=limit) for group in found]


def freshness(group: Group, *, now: datetime, warning_s: float) -> Check:
    """A group, by the age of its newest point."""
    name = f"freshness of {group.name}"
    if group.last_point is None:
        return _without_point(name, group)
    age = now - group.last_point.committed_at
    message = f"the newest point of group {group.name} is {ages.describe(age)} old"
    if age.total_seconds() <= warning_s:
        return _ok(name, message)
    allowed = ages.describe(timedelta(seconds=warning_s))
    return _warning(name, f"{message}, more than {allowed}; run its backup")


def _without_point(name: str, group: Group) -> Check:
    none_yet = f"group {group.name} has no restore point yet"
    if group.last_session and not group.last_session.state.ended:
        return _ok(name, f"{none_yet}; its first session is running")
    return _warning(name, f"{none_yet}; run its backup and see why it fails")


def _list_groups(catalog: Catalog) -> list[Group]:
    with catalog.read() as db:
        return groups.list_groups(db)


async def _notifications(inspection: Inspection) -> list[Check]:
    # Slow to import, and this module is part of every command.
    import apprise

    wrong = [
        number
        for number, url in enumerate(inspection.config.notify_urls, 1)
        if not apprise.Apprise().add(url)
    ]
    if wrong:
        message = f"number {wrong[0]} of notify_urls is no URL that apprise understands; correct it"
        return [_failed("notifications", message)]
    count = len(inspection.config.notify_urls)
    return [_ok("notifications", f"sent to {count} URLs" if count else "nobody is told of failures")]


def _size(count: int) -> str:
    return humanize.naturalsize(count, binary=True)


CHECKS: dict[str, CheckFunction] = {
    "store": _store,
    "room": _room,
    "programs": _programs,
    "catalog": _catalog,
    "certificate": _certificate,
    "layers": _layers,
    "scrub": _scrub,
    "sessions": _sessions,
    "freshness": _freshness,
    "notifications": _notifications,
}
"""What is run, in the order in which the results are shown."""
