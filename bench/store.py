# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain store against what operators have: the same work on the same data, in turn, sync included."""

from __future__ import annotations

from collections.abc import Callable

from bench import store_drop, store_read, store_year
from bench.report import Figure, Report

PARTS: dict[str, Callable[[], dict[str, Figure]]] = {
    "xfs": store_drop.on_xfs,
    "drop": store_drop.dropped_on_ext4,
    "merge": store_drop.merged_on_ext4,
    "read": store_read.run,
    "year": store_year.run,
}


def run() -> Report:
    """Every figure of the section; takes root, some 60 GiB of disk for a while, and an hour."""
    figures: dict[str, Figure] = {}
    for part in PARTS.values():
        figures |= part()
    return Report("store", figures)


def run_part(name: str) -> Report:
    """The figures of one part; those of the others stay as they were measured last."""
    return Report("store", PARTS[name](), adds=True)
