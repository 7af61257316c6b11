# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring: to files, against what operators have for it, and at once."""

from __future__ import annotations

from collections.abc import Callable

from bench import instant, instant_login, restore_files
from bench.report import Figure, Report

PARTS: dict[str, Callable[[], dict[str, Figure]]] = {
    "files": restore_files.run,
    "instant": instant.run,
    "login": instant_login.run,
}


def run() -> Report:
    """Every figure of the section; takes root, some 20 GiB of disk for a while, and twenty minutes."""
    figures: dict[str, Figure] = {}
    for part in PARTS.values():
        figures |= part()
    return Report("restore", figures)


def run_part(name: str) -> Report:
    """The figures of one part; those of the others stay as they were measured last."""
    return Report("restore", PARTS[name](), adds=True)
