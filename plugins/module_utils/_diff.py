# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collecting differences while comparing. For internal use of livebackup.qemu only."""

from __future__ import annotations

from typing import Any


class DifferenceTracker:
    """What is and what shall be, by object; ``changed`` and the task's ``diff`` both come from here."""

    def __init__(self) -> None:
        self._before: dict[str, Any] = {}
        self._after: dict[str, Any] = {}

    def compare(self, name: str, before: Any, after: Any) -> bool:
        """Note both sides of an object; return whether they differ."""
        self._before[name] = before
        self._after[name] = after
        return bool(before != after)

    @property
    def changed(self) -> bool:
        """Whether any object differs."""
        return self._before != self._after

    def diff(self) -> dict[str, Any]:
        """As a module returns it under ``diff``."""
        return {"before": self._before, "after": self._after}
