# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request that opens a session."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from livebackup_receiver.coordinator import transitions
from livebackup_receiver.model import Consistency, Model, Policy, Session, SessionState


def _distinct(hosts: list[str]) -> list[str]:
    if len(set(hosts)) < len(hosts):
        raise ValueError("name each host once")
    return hosts


GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._:-]{0,254}$")]
VmName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
# Shell patterns, so that the VMs of a host or a project can leave together.
VmPattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*?\[\]!-]{1,100}$")]
Hosts = Annotated[list[HostName], Field(min_length=1), AfterValidator(_distinct)]


class Opening(Model):
    """What is backed up, by whom and how; times in seconds, ``join_timeout_s`` null: as configured.

    ``required_vms`` must be in the point whatever the policy, and at least ``min_vms`` of any name. VMs of
    the group's newest point are expected again, except those that match a pattern of ``forget_vms``.
    ``speed_limit`` is in bytes per second for all transfers together.
    """

    group: GroupName
    policy: Policy = Policy.ALL
    consistency: Consistency = Consistency.CRASH
    hosts: Hosts
    required_vms: list[VmName] = Field(default_factory=list)
    min_vms: Annotated[int, Field(ge=0)] = 0
    forget_vms: list[VmPattern] = Field(default_factory=list)
    join_timeout_s: Annotated[float, Field(gt=0, le=86400)] | None = None
    stop_budget_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    speed_limit: Annotated[int, Field(ge=1 << 20)] | None = None


def session_of(opening: Opening, session_id: str, *, now: datetime) -> Session:
    """The record of a session that begins."""
    session = Session(
        id=session_id,
        group=opening.group,
        policy=opening.policy,
        consistency=opening.consistency,
        state=SessionState.JOINING,
        opened_at=now,
        hosts=opening.hosts,
        required_vms=sorted(set(opening.required_vms)),
        min_vms=opening.min_vms,
        forget_vms=opening.forget_vms,
    )
    transitions.opened(session)
    return session
