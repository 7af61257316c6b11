# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which VMs are brought up; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from graphlib import TopologicalSorter

from livebackup_receiver.recovery.plan import RecoveryPlan


def stages(plan: RecoveryPlan, vms: Iterable[str]) -> list[list[str]]:
    """These VMs in stages, each by name: those of a stage are brought up together, after all before it.

    A VM that another comes after, and that is not among them, is not waited for.
    """
    wanted = set(vms)
    graph = {vm: [each for each in plan.member(vm).after if each in wanted] for vm in sorted(wanted)}
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    found = []
    while sorter.is_active():
        stage = sorted(sorter.get_ready())
        found.append(stage)
        sorter.done(*stage)
    return found


def needed(plan: RecoveryPlan, vms: Iterable[str]) -> set[str]:
    """These VMs and all that they come after."""
    found: set[str] = set()
    waiting = list(vms)
    while waiting:
        vm = waiting.pop()
        if vm not in found:
            found.add(vm)
            waiting.extend(plan.member(vm).after)
    return found


def held_up(plan: RecoveryPlan, vm: str, failed: Collection[str]) -> str | None:
    """Which of the failed VMs a VM comes after, however far before it."""
    return next((each for each in sorted(needed(plan, [vm]) - {vm}) if each in failed), None)
