# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the coordinator answers to participants: orders, and with the first one the plan."""

from __future__ import annotations

from enum import StrEnum

from livebackup_receiver.model import Consistency, Level, Model, SessionState, Transport


class Order(StrEnum):
    """What a participant does next; wait: send the same step again."""

    WAIT = "wait"
    PREPARE = "prepare"
    STOP = "stop"
    CUT = "cut"
    TRANSFER = "transfer"
    FINISH = "finish"
    ABORT = "abort"
    LEAVE = "leave"


class PlannedDisk(Model):
    """How one disk is backed up, and the unguessable name of its NBD export."""

    disk: str
    level: Level
    level_reason: str
    parent: str | None
    export: str
    virtual_size: int


class PlannedVm(Model):
    vm: str
    disks: list[PlannedDisk]


class Plan(Model):
    """A participant's part of a session; ``point`` is the id of the session and of its point."""

    point: str
    consistency: Consistency
    stop_budget_s: float
    transport: Transport
    vms: list[PlannedVm]


class Answer(Model):
    """The answer to a step; ``plan`` comes with the order ``prepare`` only, ``disk_speed`` with ``transfer``.

    ``disk_speed`` is in bytes per second for each running transfer, null for no limit.
    """

    order: Order
    session_state: SessionState
    reason: str | None = None
    plan: Plan | None = None
    disk_speed: int | None = None
