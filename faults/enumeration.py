# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs all combinations on some sites at the same time and prints the table."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from machine import MIB, Image, Machine

from faults import combinations
from faults.combinations import Combination, Verdict
from faults.site import Site, site

# Mostly they wait for limits, so there may be more of them than processors.
SITES = 3


def enumerate_all(pattern: str) -> int:
    """Judge every combination whose name has ``pattern``; the number of violations."""
    wanted = [each for each in combinations.every() if pattern in each.name]
    waiting: queue.SimpleQueue[Combination] = queue.SimpleQueue()
    for each in wanted:
        waiting.put(each)
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        workers = [
            threading.Thread(target=_work, args=(Path(directory, str(number)), number, waiting, verdicts))
            for number in range(min(SITES, len(wanted)))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    violations = sum(len(each.violations) for each in verdicts) + len(wanted) - len(verdicts)
    print(f"faults: combinations={len(verdicts)} violations={violations}")
    return violations


def _work(
    directory: Path, number: int, waiting: queue.SimpleQueue[Combination], verdicts: list[Verdict]
) -> None:
    while True:
        with contextlib.suppress(queue.Empty), prepared_site(directory, number) as prepared:
            while True:
                combination = waiting.get_nowait()
                verdicts.append(_judge(combination, prepared))
                if verdicts[-1].violations:
                    # what is wrong with this site must not be held against the next combination
                    break
            directory, number = directory.with_name(f"{directory.name}x"), number + SITES
            continue
        return


def _judge(combination: Combination, prepared: Site) -> Verdict:
    started = time.monotonic()
    try:
        verdict = combinations.judge(combination, prepared)
    except Exception as error:  # a harness that cannot go on is a violation, too
        verdict = Verdict(combination, "unknown", violations=[f"{type(error).__name__}: {error}"])
    took = time.monotonic() - started
    print(f"{combination.name:45} {verdict.outcome:10} {took:5.1f} s  {verdict.reason or ''}", flush=True)
    for violation in verdict.violations:
        print(f"    VIOLATION {violation}", flush=True)
    return verdict


@contextlib.contextmanager
def prepared_site(directory: Path, number: int) -> Iterator[Site]:
    """Two hosts with a VM each, whose disks already have a point."""
    directory.mkdir()
    one = Machine(
        directory,
        name=f"one{number}",
        images=(Image("a", bytes=8 * MIB), Image("b", "raw", bytes=4 * MIB)),
        rounds=0,
        driven=True,
    )
    image = Image("c", bytes=4 * MIB)
    two = Machine(directory, name=f"two{number}", images=(image,), rounds=0, driven=True, iothreads=True)
    with site(directory, {"hv1": [one], "hv2": [two]}, number) as made:
        made.writing.wait_rounds()
        first = made.run({})
        if first.states[-1:] != ["committed"]:
            said = [result.get("msg") for result in first.results.values()]
            raise RuntimeError(f"a site without faults does not back up: {first.reason}; {said}")
        yield made
