# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a restore is, on stderr: a bar for each disk on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self

import humanize
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from livebackup_receiver.restore import DiskRestore, Stage

LINE_EVERY_S = 10.0


class RestoreProgress:
    """Shows what it is told, in the way that suits who looks."""

    def __init__(self) -> None:
        screen = Console(stderr=True)
        self._view = _Bars(screen) if screen.is_terminal else _Lines()

    def __enter__(self) -> Self:
        self._view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.stop()

    def update(self, disk: DiskRestore, stage: Stage, done: int, total: int) -> None:
        """A disk has come so far; sizes in bytes."""
        self._view.update(f"{disk.vm} {disk.disk}", stage, done, total)


class _Bars:
    def __init__(self, screen: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=screen,
        )
        self._tasks: dict[tuple[str, Stage], TaskID] = {}
        self.start, self.stop = self._progress.start, self._progress.stop

    def update(self, name: str, stage: Stage, done: int, total: int) -> None:
        for other in Stage:
            if other is not stage and (task := self._tasks.pop((name, other), None)) is not None:
                self._progress.remove_task(task)
        if (name, stage) not in self._tasks:
            # What was done before this run is not the speed of this one.
            self._tasks[name, stage] = self._progress.add_task(f"{name} {stage}", total=total, completed=done)
        self._progress.update(self._tasks[name, stage], completed=done, total=total)


@dataclass
class _Said:
    at: float
    done: int


class _Lines:
    """For logs: nothing for a short restore, and for a long one a line for each disk every ten seconds."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, Stage], _Said] = {}

    def start(self) -> None:
        """Nothing is shown before there is something to say."""

    def stop(self) -> None:
        """Nothing is left on the screen."""

    def update(self, name: str, stage: Stage, done: int, total: int) -> None:
        now = monotonic()
        last = self._last.setdefault((name, stage), _Said(now, done))
        if (passed := now - last.at) < LINE_EVERY_S:
            return
        self._last[name, stage] = _Said(now, done)
        so_far, whole, speed = (
            humanize.naturalsize(size, binary=True) for size in (done, total, (done - last.done) / passed)
        )
        print(f"{name}: {stage}, {so_far} of {whole}, {speed}/s", file=sys.stderr, flush=True)
