# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told of the state of the store's layers; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from livebackup_receiver import ages
from livebackup_receiver.scrub.choice import Candidate
from livebackup_receiver.scrub.finding import LayerCheck
from livebackup_receiver.scrub.known import DiskDamage, where

NAMED = 5
# A scrub that is slower than that does not keep up.
LATE_FACTOR = 2


class Verdict(NamedTuple):
    """``ok``, ``warning`` or ``failed``, and why."""

    state: str
    message: str


def judge(
    damage: Sequence[DiskDamage], layers: Sequence[Candidate], *, now: datetime, days: float
) -> Verdict:
    """What is to be said of the whole store.

    :param layers: every layer that is needed
    :param days: in which the whole store should be read
    """
    hurt = [words for each in damage if (words := damage_words(each))]
    if hurt:
        others = [f"{each.vm}/{each.disk}" for each in damage if each.hurt][1:]
        more = f"; damaged as well: {_names(others)}" if others else ""
        return Verdict("failed", hurt[0] + more)
    if unread := [words for each in damage for words in unread_words(each)]:
        message = f"{_names(unread)}; nobody can say whether that is good, bring it back from a copy"
        return Verdict("warning", message)
    keeps_up, message = progress_words(layers, now=now, days=days)
    return Verdict("ok" if keeps_up else "warning", message)


def damage_words(damage: DiskDamage) -> str | None:
    """Where a disk is damaged, at which points, and what to do; None if no point is hurt."""
    if not damage.hurt:
        return None
    layers = sorted({layer for harm in damage.hurt.values() for layer in harm.layers})
    problem = damage.checks[layers[-1]].problem
    which = f"disk {damage.disk} of VM {damage.vm} is damaged ({problem}), {where(damage, damage.hurt)}"
    what = f"{which}, at {_points(list(damage.hurt))}"
    files = _names([f"{damage.vm}/{damage.disk}/{layer}.qcow2" for layer in layers])
    scrub = f"run `livebackup-receiver scrub --vm {damage.vm} --disk {damage.disk}`"
    copy = f"bring {files} back from a copy of the store and {scrub}"
    if damage.newest and damage.newest.point in damage.hurt:
        return f"{what}; back it up again, which sends what is damaged, and to save these points, {copy}"
    return f"{what}; the newest point is whole, and to save these, {copy}, or drop them"


def unread_words(damage: DiskDamage) -> list[str]:
    """The layers of a disk of which nobody can say how they are, and why."""
    return [_unread(check) for check in damage.checks.values() if not check.ranges and not check.useless]


def progress_words(layers: Sequence[Candidate], *, now: datetime, days: float) -> tuple[bool, str]:
    """Whether the scrub keeps up, and how far it is."""
    if not days:
        return True, "the store is never read back, because scrub_days is 0"
    times = [each.checked_at for each in layers if each.checked_at]
    never = len(layers) - len(times)
    if not times:
        return True, f"none of {len(layers)} layers was read back yet"
    age = now - min(times)
    unread = f", {never} never" if never else ""
    message = f"{len(times)} of {len(layers)} layers were read back{unread}; the longest unread {_ago(age)}"
    if age <= LATE_FACTOR * timedelta(days=days):
        return True, message
    return False, f"{message}, which should be {days:g} days at most; raise scrub_bytes_per_s or scrub_days"


def _ago(age: timedelta) -> str:
    return f"{ages.describe(age)} ago"


def _unread(check: LayerCheck) -> str:
    return f"layer {check.vm}/{check.disk}/{check.point}.qcow2: {check.problem}"


def _points(points: Sequence[str]) -> str:
    return f"point {points[0]}" if len(points) == 1 else f"{len(points)} points: {_names(points)}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[-NAMED:]) + more
