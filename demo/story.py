# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job, in order: deploy, full, two increments, restore; the integration tests do the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from demo import proofs
from demo.proofs import Proof, Refuted
from demo.site import RESTORED, ROOT, PlayResult, Site
from lab import truth
from lab.topology import CHAIN

SHOTS = ROOT / "build/demo"
# The workload writes 10 records a second; so many new ones make an increment worth the name.
RECORDS_BETWEEN_POINTS = 30
RUNS = ("crash", "filesystem", "crash")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Evidence:
    """What the main job left: the points of this run, how deploying twice went, what the page showed."""

    points: list[dict[str, Any]]
    deployed_again: PlayResult
    page: dict[str, Any]


def tell(site: Site, say: Say) -> Evidence:
    """Do the main job; raises PlayFailed when a step of it fails."""
    say("deploy the receiver and both hypervisors")
    site.play("deploy")
    say("deploy again")
    again = site.play("deploy")
    with browser(site, wanted=len(site.points()) + len(RUNS)) as page:
        points = [_back_up(site, consistency, say) for consistency in RUNS]
    for point in points:
        say(f"restore point {point['id']}")
        _restore(site, point)
    return Evidence(points=points, deployed_again=again, page=page)


def _back_up(site: Site, consistency: str, say: Say) -> dict[str, Any]:
    _wait_for_writes(site)
    say(f"back up the group, consistency {consistency}, while its guests write")
    point = site.backup(livebackup_consistency=consistency, livebackup_cut_hook=truth.COMMAND)
    say(f"  {describe(point)}")
    return point


def _wait_for_writes(site: Site) -> None:
    """Return when every guest has written enough since now. Raises TimeoutError naming the VM."""
    awaited = site.vms[0].newest().b + RECORDS_BETWEEN_POINTS
    for vm in site.vms:
        vm.wait_for_record(awaited)


def _restore(site: Site, point: dict[str, Any]) -> None:
    site.play(
        "restore",
        livebackup_restore_point=point["id"],
        livebackup_restore_vms=[{"vm": vm["vm"], "host": vm["host"]} for vm in point["vms"]],
        livebackup_restore_to=f"{RESTORED}/{point['id']}",
    )


def describe(point: dict[str, Any]) -> str:
    """One line on a point: levels, bytes, the longest pause."""
    disks = [disk for vm in point["vms"] for disk in vm["disks"]]
    levels = "+".join(sorted({disk["level"] for disk in disks}))
    sent = sum(disk["sent_bytes"] for disk in disks) / 2**20
    pause = max(vm["pause_ms"] for vm in point["vms"])
    return f"point {point['id']}: {levels}, {sent:.1f} MiB received, longest pause {pause:.0f} ms"


@contextmanager
def browser(site: Site, wanted: int) -> Iterator[dict[str, Any]]:
    """A headless browser on the status page while the body runs; the yielded dict then says what it saw."""
    token = SHOTS / "page.token"
    SHOTS.mkdir(parents=True, exist_ok=True)
    made = site.receiver("token", "create", "--name", f"page-{wanted}", "--role", "read", "--json")
    token.write_text(json.loads(made.stdout)["token"])
    token.chmod(0o600)
    watching = [sys.executable, "-m", "demo.page", site.url, str(token), str(SHOTS), str(wanted)]
    watcher = subprocess.Popen(
        site.lab.box.command(watching, cwd=ROOT),
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    seen: dict[str, Any] = {}
    try:
        yield seen
        seen.update(_what_it_saw(watcher))
    finally:
        watcher.kill()
        token.unlink()


def _what_it_saw(watcher: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = watcher.communicate(timeout=180)
    if watcher.returncode:
        raise Refuted(f"the status page did not show what it should: {errors.strip()[-600:]}")
    seen: dict[str, Any] = json.loads(output.splitlines()[-1])
    return seen


def prove(site: Site, evidence: Evidence) -> Iterator[Proof]:
    """Every claim about the main job, one after the other; raises Refuted at the first that does not hold."""
    points = evidence.points
    yield proofs.increments_hold_only_dirty_clusters(points)
    yield proofs.restored_equal_truth(site, points)
    yield proofs.order_holds(site, points)
    yield proofs.newest_point_boots(site, points[-1])
    yield proofs.layers_are_clean(site, points)
    yield proofs.qemu_img_alone_restores(site, points)
    yield nothing_changed(site, evidence)
    yield page_showed(evidence)
    yield proofs.nothing_left(site)


def nothing_changed(site: Site, evidence: Evidence) -> Proof:
    """Deploying and tracking a second time change nothing."""
    if any(evidence.deployed_again.changed.values()):
        raise Refuted(f"the second deploy changed something: {evidence.deployed_again.changed}")
    for host in ("hv1", "hv2"):
        tracked = [vm.name for vm in site.vms if vm.host.name == host]
        result = site.module(host, "tracking", vms=tracked, state="present")
        if result["changed"]:
            raise Refuted(f"tracking what is tracked changed something on {host}: {result}")
    return Proof("a run without a change says changed: false", "deploy and tracking, each twice")


def page_showed(evidence: Evidence) -> Proof:
    """The page, in a real browser, showed a session running and then the points."""
    missing = {point["id"] for point in evidence.points} - set(evidence.page["points"])
    if missing:
        raise Refuted(f"the status page does not show {', '.join(sorted(missing))}")
    shots = ", ".join(str((SHOTS / name).relative_to(ROOT)) for name in ("running.png", "points.png"))
    return Proof(
        "the page showed the session running, then the points", f"{evidence.page['running']} running; {shots}"
    )


def last_line(evidence: Evidence, held: list[Proof]) -> str:
    """The demonstration's verdict in one line."""
    newest = evidence.points[-1]
    disks = sum(len(vm["disks"]) for vm in newest["vms"])
    pause = max(vm["pause_ms"] for point in evidence.points for vm in point["vms"])
    return (
        f"demo: ok vms={len(newest['vms'])} disks={disks} points={len(evidence.points)} "
        f"proofs={len(held)} max_pause_ms={pause:.0f} order={'/'.join(CHAIN)}"
    )
