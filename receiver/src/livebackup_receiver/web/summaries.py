# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures the page derives from what the API answers about sessions and points.

Pure; every function is a Jinja filter of the page (``FILTERS``) and takes the JSON form of the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from livebackup_receiver.model import SessionState
from livebackup_receiver.web.wording import instant, utc

Record = Mapping[str, Any]

SESSION_STEPS = [str(state) for state in SessionState if state is not SessionState.ABORTED]


class Step(NamedTuple):
    """One step of a session: its name, and ``done``, ``now``, ``failed`` or ``ahead``."""

    name: str
    progress: str


def steps(session: Record) -> list[Step]:
    """Every step of the session with how far it got; an aborted one shows where it ended."""
    reached = _reached(session)
    return [
        Step(name, _progress(place, reached, session["state"])) for place, name in enumerate(SESSION_STEPS)
    ]


def _reached(session: Record) -> int:
    state = session["state"]
    if state == "aborted":
        ends = [step["from"] for step in session["transitions"] if step["to"] == "aborted"]
        state = ends[-1] if ends else SESSION_STEPS[0]
    return SESSION_STEPS.index(state)


def _progress(place: int, reached: int, state: str) -> str:
    if place < reached or state == "committed":
        return "done"
    if place > reached:
        return "ahead"
    return "failed" if state == "aborted" else "now"


def absent_hosts(session: Record) -> list[str]:
    """Hosts the session expects that have not joined."""
    present = {participant["host"] for participant in session["participants"]}
    return [host for host in session["hosts"] if host not in present]


def percent(transfer: Record) -> int:
    """How much of a disk has arrived, 0 to 100; an empty transfer is whole once it is done."""
    if not transfer["total_bytes"]:
        return 100 if transfer["state"] in ("transferred", "sealed") else 0
    return min(100, 100 * int(transfer["done_bytes"]) // int(transfer["total_bytes"]))


def disks(point: Record) -> list[Record]:
    """All disks of a point."""
    return [disk for vm in point["vms"] for disk in vm["disks"]]


def stored(point: Record) -> int:
    """Bytes the layers of a point take in the store."""
    return sum(disk["stored_bytes"] for disk in disks(point))


def longest_pause(point: Record) -> float | None:
    """The longest pause of its VMs, in milliseconds."""
    return max((vm["pause_ms"] for vm in point["vms"] if vm["pause_ms"] is not None), default=None)


class Hold(NamedTuple):
    """What keeps a point from being dropped: ``pinned`` or ``locked``, and the whole of it in words."""

    kind: str
    words: str


def holds(point: Record, now: datetime) -> list[Hold]:
    """What holds a point now; a pin or lock that has ended does not."""
    found = []
    pin_until, locked_until = point["pin_until"], point["locked_until"]
    if point["pin_reason"] is not None and (pin_until is None or instant(pin_until) > now):
        until = f", until {utc(pin_until)}" if pin_until else ""
        found.append(Hold("pinned", f"Pinned: {point['pin_reason']}{until}"))
    if locked_until and instant(locked_until) > now:
        found.append(Hold("locked", f"Locked until {utc(locked_until)}"))
    return found


FILTERS: dict[str, Callable[..., Any]] = {
    figure.__name__: figure for figure in (steps, absent_hosts, percent, disks, stored, longest_pause, holds)
}
