# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session in memory, and the steps its two hosts report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sample_records import transfer

from livebackup_receiver.coordinator import steps, transitions
from livebackup_receiver.coordinator.opening import Opening, session_of
from livebackup_receiver.coordinator.reports import AnyStep, ReportedStep
from livebackup_receiver.model import Policy, Session, SessionState, TransferState

NOW = datetime(2026, 3, 1, 3, 0, 0, tzinfo=UTC)
SESSION_ID = "01JD7FZK3M4N5P6Q7R8S9T0V1W"
VMS = {"hv1": ("db", "app"), "hv2": ("web",)}
SIZE = 8 << 20
STEP: TypeAdapter[AnyStep] = TypeAdapter(ReportedStep)


def planned_session(policy: Policy = Policy.ALL) -> Session:
    """Both hosts have joined and every VM's disk vd-a is planned."""
    opening = Opening(group="nightly", policy=policy, hosts=list(VMS))
    session = session_of(opening, SESSION_ID, now=NOW)
    for host in VMS:
        transitions.join(session, host, now=NOW)
    transfers = [
        transfer(vm, host=host, virtual_size=SIZE, state=TransferState.PLANNED)
        for host, vms in VMS.items()
        for vm in vms
    ]
    transitions.planned(session, transfers, now=NOW)
    transitions.enter(session, SessionState.PREPARING, now=NOW)
    return session


def step(name: str, host: str, *vms: str, **facts: Any) -> AnyStep:
    """A step as the host sends it, about these VMs or all of its own."""
    chosen = vms or VMS[host]
    disk = {"disk": "vd-a", "dirty_bytes": 65536, "virtual_size": SIZE}
    every: dict[str, dict[str, Any]] = {
        "joined": {"vms": []},
        "prepared": {},
        "stopped": {"vms": [{"vm": vm, "consistency": "filesystem"} for vm in chosen]},
        "cut": {
            "vms": [{"vm": vm, "pause_ms": 21.5, "consistency": "crash", "disks": [disk]} for vm in chosen]
        },
        "transferring": {
            "disks": [
                {"vm": vm, "disk": "vd-a", "done_bytes": 5, "total_bytes": 10, "sent_bytes": 6}
                for vm in chosen
            ]
        },
        "transferred": {"disks": [{"vm": vm, "disk": "vd-a", "sent_bytes": 11} for vm in chosen]},
        "failed": {"reason": "the scratch space is full"},
        "finished": {"removed": ["livebackup:old"]},
    }
    return STEP.validate_python({"step": name, "facts": facts or every[name]})


def apply(session: Session, host: str, name: str, *vms: str, **facts: Any) -> None:
    """Report a step of a host that has joined."""
    participant = transitions.find(session, host)
    assert participant
    reported = step(name, host, *vms, **facts)
    if steps.counts(reported, session, participant):
        steps.apply(reported, session, participant, now=NOW)
