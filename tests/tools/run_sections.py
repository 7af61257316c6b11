# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run verbs of the Makefile one after another and close with one summary.

A verb that leaves ``<results>/<verb>.xml`` (JUnit, as pytest writes it) counts with its tests; any other
counts as one check. A failing verb does not keep the later ones from running.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one verb came to."""

    verb: str
    passed: int
    failed: int
    skipped: int
    seconds: float


def counts(report: pathlib.Path, succeeded: bool) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a verb, from its report if it wrote one.

    A verb that failed counts at least one failure, whatever its report says.
    """
    if not report.exists():
        return (1, 0, 0) if succeeded else (0, 1, 0)
    suites = list(ET.parse(report).getroot().iter("testsuite"))
    total, errors, failures, skipped = (
        sum(int(suite.get(kind, "0")) for suite in suites)
        for kind in ("tests", "errors", "failures", "skipped")
    )
    failed = errors + failures
    return total - failed - skipped, max(failed, 0 if succeeded else 1), skipped


def run(verb: str, results: pathlib.Path) -> Outcome:
    """Run one verb, its output passing through, and count."""
    report = results / f"{verb}.xml"
    report.unlink(missing_ok=True)
    print(f"\n{f' {verb} ':=^{WIDTH}}", flush=True)
    began = time.monotonic()
    done = subprocess.run(["make", "--no-print-directory", verb], stdin=subprocess.DEVNULL, check=False)
    passed, failed, skipped = counts(report, done.returncode == 0)
    return Outcome(verb, passed, failed, skipped, time.monotonic() - began)


def table(outcomes: list[Outcome]) -> str:
    """One line a verb, the failed ones marked."""
    widest = max(len(outcome.verb) for outcome in outcomes)
    return "\n".join(
        f"{'FAILED' if o.failed else 'ok':7}{o.verb:{widest}}"
        f"{o.passed:6} passed{o.failed:5} failed{o.seconds:9.1f} s"
        for o in outcomes
    )


def summary(outcomes: list[Outcome]) -> str:
    """The closing lines: a total as pytest writes it, and the plain one that any reader of logs finds."""
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    kinds = [(failed, "failed"), (passed, "passed"), (skipped, "skipped")]
    parts = [f"{number} {kind}" for number, kind in kinds if number or kind == "passed"]
    total = f" {', '.join(parts)} in {sum(outcome.seconds for outcome in outcomes):.2f}s "
    return f"{total:=^{WIDTH}}\n{passed} passed, {failed} failed"


def main() -> int:
    """Return 1 if any verb failed."""
    parser = argparse.ArgumentParser(description="Run verbs of the Makefile, then sum up.")
    parser.add_argument("--results", type=pathlib.Path, required=True, help="where verbs leave JUnit reports")
    parser.add_argument("verbs", nargs="+", help="targets of the Makefile, in order")
    arguments = parser.parse_args()
    outcomes = [run(verb, arguments.results) for verb in arguments.verbs]
    print(f"\n{' summary ':=^{WIDTH}}\n{table(outcomes)}\n{summary(outcomes)}")
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
