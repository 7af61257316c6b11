# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every actor at every boundary with every action, and what is true of a site after each."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from ansible_collections.livebackup.qemu.plugins.module_utils import _faultpoints as participant_points
from livebackup_receiver import faultpoints as receiver_points

from faults import invariants, outcomes, store
from faults.site import Run, Site

ATTEMPTS = 3
ACTIONS = ("kill", "hang", "error")
# what makes a session abort, or leaves one open for the receiver that starts after it
FAILING_PARTICIPANT = {"hv2": "participant.prepared#1 error"}
# bytes a second; what a guest writes between two combinations takes longer than a second then
SLOW = 1 << 20
KILLED_RECEIVER = {"receiver": "session.transferring#1 kill"}


@dataclass(frozen=True)
class Combination:
    """One fault: at the ``hit``-th passing of a point."""

    point: str
    hit: int
    action: str
    scenario: str = receiver_points.RUN

    @property
    def name(self) -> str:
        return f"{self.point}#{self.hit} {self.action}"

    @property
    def actor(self) -> str:
        """Which process is told to strike."""
        return "hv1" if self.point.startswith("participant.") else "receiver"

    @property
    def wishes(self) -> dict[str, str]:
        """The faults of its run."""
        if self.scenario == receiver_points.RESTART:
            return KILLED_RECEIVER
        aborting = FAILING_PARTICIPANT if self.scenario == receiver_points.ABORT else {}
        return {**aborting, self.actor: self.name}

    @property
    def options(self) -> dict[str, int]:
        """What makes a transfer last until it is reported."""
        return {"speed": SLOW} if "transferring" in self.point else {}

    @property
    def at_restart(self) -> str | None:
        """The fault of a receiver that starts again."""
        return self.name if self.scenario == receiver_points.RESTART else None


@dataclass
class Verdict:
    """What became of a combination: the outcome of the broken session, and what was wrong."""

    combination: Combination
    outcome: str = ""
    reason: str | None = None
    struck: bool = False
    violations: list[str] = field(default_factory=list)


def every() -> list[Combination]:
    """All combinations; merging layers is no part of a session, and is broken by the receiver's own tests."""
    points = [(name, hits, receiver_points.RUN) for name, hits in participant_points.POINTS.items()]
    points += [
        (name, 1, scenario)
        for name, scenario in receiver_points.POINTS.items()
        if scenario != receiver_points.MERGE
    ]
    return [
        Combination(name, hit, action, scenario)
        for name, hits, scenario in points
        for hit in range(1, hits + 1)
        for action in ACTIONS
    ]


def judge(combination: Combination, site: Site) -> Verdict:
    """Break one session, check, let the next one heal, and check again.

    On a busy machine a session may end before the fault has come; then it is tried again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        verdict = _judge_once(combination, site)
        if verdict.struck or verdict.violations or attempt == ATTEMPTS:
            break
    if not verdict.struck:
        verdict.violations.append(f"{combination.name} was never reached")
    return verdict


def _judge_once(combination: Combination, site: Site) -> Verdict:
    verdict = Verdict(combination)
    before = set(store.points(site.receiver))
    site.writing.forget_delays()
    broken = site.run(combination.wishes, at_restart=combination.at_restart, options=combination.options)
    verdict.outcome, verdict.reason = (broken.states[-1:] or ["refused"])[0], broken.reason
    verdict.struck = combination.actor in site.struck
    verdict.violations += [f"stuck: {each}" for each in broken.stuck]
    verdict.violations += invariants.of_promises(site, broken, before)
    verdict.violations += invariants.of_points(site, before)
    site.writing.wait_rounds()
    verdict.violations += invariants.of_guests(site)
    verdict.violations += heal(site)
    verdict.violations += _against_the_page(verdict) if verdict.struck else []
    return verdict


def _against_the_page(verdict: Verdict) -> list[str]:
    row = outcomes.row_of(verdict.combination.name)
    complaint = row.complaint(verdict.outcome, verdict.reason) if row else "the page has no row about it"
    return [complaint] if complaint else []


def heal(site: Site, doubtful: Set[tuple[str, str]] = frozenset()) -> list[str]:
    """The next run without faults must commit, incrementally, and leave nothing behind.

    :param doubtful: disks whose bitmaps need not be true any more
    """
    before = store.points(site.receiver)
    run: Run = site.run({})
    if not run.session or run.states[-1:] != ["committed"]:
        said = [result.get("msg") for result in run.results.values()]
        return [f"the next run did not commit: {run.reason}; {said}"]
    return [
        *[f"stuck: {each}" for each in run.stuck],
        *invariants.of_promises(site, run, set(before)),
        *invariants.of_points(site, set(before)),
        *invariants.of_levels(run, max(before, default=None), doubtful),
        *invariants.of_leftovers(site, run.session),
        *invariants.of_guests(site),
    ]
