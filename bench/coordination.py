# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the coordinator bears many VMs: simulated participants, real API, storage daemons and layers.

Participants and receiver share this machine, so the figures hold both. Of each size the first session is
full and the others are incremental.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import loopback, simulated
from bench.report import Figure, Report

# VMs, and the hosts that share them.
SIZES = ((1, 1), (10, 2), (100, 10), (500, 50))
SESSIONS = 3
AIMS = {500: ("< 5", "< 2")}


@dataclass(frozen=True)
class Measured:
    """One session: seconds, and the receiver's own and its children's CPU seconds and peak memory in MB."""

    open_to_cut_s: float
    commit_s: float
    cpu_s: float
    rss_mb: float


def run() -> Report:
    """Measure every size on a receiver of its own."""
    figures: dict[str, Figure] = {}
    for vms, hosts in SIZES:
        runs = measure_size(vms, hosts)
        open_aim, commit_aim = AIMS.get(vms, ("", ""))
        figures[f"open_to_cut_s_{vms}"] = Figure("s", [each.open_to_cut_s for each in runs], open_aim)
        figures[f"commit_s_{vms}"] = Figure("s", [each.commit_s for each in runs], commit_aim)
    figures[f"receiver_cpu_s_{vms}"] = Figure("s of CPU a session", [each.cpu_s for each in runs])
    figures[f"receiver_rss_mb_{vms}"] = Figure("MB at most", [each.rss_mb for each in runs])
    return Report("coordination", figures)


def measure_size(vms: int, hosts: int) -> list[Measured]:
    """Several sessions of so many VMs on so many hosts."""
    build = loopback.ROOT / "build"
    build.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name,
        loopback.receiver(Path(name)) as receiver,
    ):
        group = simulated.make_hosts(receiver, hosts=hosts, vms=vms)
        return [measure(receiver, group) for dummy in range(SESSIONS)]


def measure(receiver: loopback.Receiver, hosts: list[simulated.Host]) -> Measured:
    """One session."""
    before = cpu_seconds(receiver.pid)
    session = receiver.session(simulated.back_up(hosts, loopback.GROUP))
    return Measured(
        open_to_cut_s=(entered(session, "session", "cutting") - moment(session["opened_at"])),
        commit_s=moment(session["ended_at"]) - last_byte(session),
        cpu_s=cpu_seconds(receiver.pid) - before,
        rss_mb=peak_memory_mb(receiver.pid),
    )


def entered(session: dict[str, Any], subject: str, state: str) -> float:
    """When a subject came to a state, in seconds since the epoch."""
    return next(
        moment(each["at"])
        for each in session["transitions"]
        if (each["subject"], each["to"]) == (subject, state)
    )


def last_byte(session: dict[str, Any]) -> float:
    """When the last host had sent everything."""
    return max(entered(session, host, "transferred") for host in session["hosts"])


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def cpu_seconds(pid: int) -> float:
    """CPU that a process and the children that it has waited for have used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def peak_memory_mb(pid: int) -> float:
    """The most memory that a process had at once."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
