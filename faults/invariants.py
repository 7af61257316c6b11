# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold whatever breaks. Each check returns the violations as sentences; none is good.

I1  every committed point is what the disks were at its cut, all of them at one instant
I2  what is shown as a point is complete and durable, and what was said to be committed still is
I3  every guest runs and writes, within the watchdog's budget of any fault, and no write of it fails
I4  after the next good run nothing of the broken one is left anywhere
I5  that run is incremental on every disk whose bitmap is still true
"""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

from machine import Machine
from receiving import ReceiverProcess

from faults import store
from faults.site import STOP_BUDGET_S, Run, Site

# on a machine that is busy with other things, the watchdog itself may wait for the processor
GRACE_S = 4.0
MARKER = "livebackup:tracked"


def of_points(site: Site, known: set[str]) -> list[str]:
    """I1 for the points that are not ``known`` yet."""
    shown = store.points(site.receiver)
    new = [point for point in shown.values() if point["id"] not in known]
    return [violation for point in new for violation in _of_point(site, point)]


def _of_point(site: Site, point: dict[str, Any]) -> Iterable[str]:
    order = [machine.name for machine in site.machines]
    counts = []
    for vm, disk in sorted(store.disks(point), key=lambda each: (order.index(each[0]), each[1]["disk"])):
        layer = site.receiver.store / disk["layer"]
        truth = site.truth(point["id"], vm, disk["disk"].removeprefix("vd-"))
        if difference := store.same_content(layer, truth):
            yield f"I1: point {point['id']}: {vm}/{disk['disk']}: {difference}"
        counts.append(store.count(layer))
    if counts != sorted(counts, reverse=True):
        yield f"I1: point {point['id']}: the disks are of different instants: {counts}"


def of_promises(site: Site, run: Run, before: set[str]) -> list[str]:
    """I2 after a run, whose receiver answers again."""
    shown = store.points(site.receiver)
    violations = [f"I2: point {point} is gone" for point in before - set(shown)]
    new = set(shown) - before
    if run.said_committed and run.session not in new:
        violations.append(f"I2: session {run.session} was said to be committed, and there is no such point")
    if new - {run.session}:
        violations.append(f"I2: points that no session made: {new - {run.session}}")
    wanted = {(machine.name, f"vd-{image.name}") for machine in site.machines for image in machine.images}
    for point in new:
        found = {(vm, disk["disk"]) for vm, disk in store.disks(shown[point])}
        if found != wanted or not shown[point]["complete"]:
            violations.append(f"I2: point {point} is not complete: {found}")
    state = site.receiver.session(run.session)["state"] if run.session else "aborted"
    if state != ("committed" if run.session in new else "aborted"):
        violations.append(f"I2: session {run.session} is {state}, its point is {run.session in new}")
    return violations


def of_guests(site: Site) -> list[str]:
    """I3 since the delays were forgotten."""
    violations = []
    for machine in site.machines:
        record = site.writing.records[machine.name]
        longest = max(record.longest_s, record.waiting_s())
        if not machine.running():
            violations.append(f"I3: {machine.name} does not run")
        if record.failed_writes:
            violations.append(f"I3: {machine.name}: {record.failed_writes} writes failed")
        if longest > STOP_BUDGET_S + GRACE_S:
            violations.append(f"I3: {machine.name} stood still for {longest:.1f} s")
    return violations


def of_leftovers(site: Site, head: str) -> list[str]:
    """I4 after a good run, which made the point ``head``."""
    violations = [f"I4: {vm.name}: {each}" for vm in site.machines for each in _on_vm(vm, head)]
    known = set(store.points(site.receiver))
    for file in store.files_of_no_point(site.receiver.store, known):
        violations.append(f"I4: {file} is in the store")
    violations += [f"I4: {path} is left" for path in _secrets(site)]
    violations += [f"I4: {path} is scratch" for path in site.scratch.iterdir()]
    return violations + [f"I4: process {line}" for line in _daemons(site.receiver)]


def _on_vm(machine: Machine, head: str) -> Iterable[str]:
    yield from machine.leftovers()
    for image in machine.images:
        names = machine.bitmaps(image.name).get(f"disk-{image.name}", [])
        if sorted(names) != sorted([MARKER, f"livebackup:{head}", f"livebackup:end:{head}"]):
            yield f"the bitmaps of disk {image.name} are {names}"


def _secrets(site: Site) -> list[Path]:
    places = (site.temporary, site.receiver.store)
    # directories of the site next to this one come and go in /run, which pathlib does not take lightly
    shared = map(Path, glob.glob("/run/*/*.psk"))
    keys = [*(path for place in places for path in place.rglob("*.psk")), *shared]
    return [path for path in keys if any(session in _text(path) for session in site.sessions)]


def _daemons(receiver: ReceiverProcess) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    mine = [line for line in listed.splitlines() if "qemu-storage-daemon" in line]
    return [line for line in mine if str(receiver.directory) in _open_files(line.split()[0])]


def _open_files(pid: str) -> str:
    try:
        return " ".join(os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def of_levels(run: Run, parent: str | None, doubtful: Set[tuple[str, str]]) -> list[str]:
    """I5 of a good run: incremental from the newest point on every disk that is not doubtful."""
    return [
        f"I5: {vm['vm']}/{disk['disk']} was {disk['level']} from {disk['parent']}: {disk['level_reason']}"
        for result in run.results.values()
        for vm in result.get("vms", [])
        for disk in vm["disks"]
        if (vm["vm"], disk["disk"]) not in doubtful
        and (disk["level"], disk["parent"]) != ("incremental", parent)
    ]
