# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain store against what operators have: the same work on the same data, in turn, sync included."""

from __future__ import annotations

from bench import store_drop, store_read, store_year
from bench.report import Figure, Report


def run() -> Report:
    """Every figure of the section; takes root, and some 60 GiB of disk for a while."""
    figures: dict[str, Figure] = {}
    for part in (store_drop.run, store_read.run, store_year.run):
        figures |= part()
    return Report("store", figures)
