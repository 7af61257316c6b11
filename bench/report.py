# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of one benchmark section: figures with their runs, as JSON and as a table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OUT = Path("bench/out")


@dataclass(frozen=True)
class Figure:
    """One figure: `value` is the median of `runs`, in `unit`; `aim` is what we hope for, in words."""

    unit: str
    runs: list[float]
    aim: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.runs)

    def as_json(self) -> dict[str, Any]:
        return {
            "value": round(self.value, 4),
            "unit": self.unit,
            "runs": [round(run, 4) for run in self.runs],
        }


@dataclass
class Report:
    """All figures of one section; if it ``adds``, some, and the file keeps the others.

    Figures of a ratio are of one run always, whatever part of the section that was.
    """

    section: str
    figures: dict[str, Figure] = field(default_factory=dict)
    adds: bool = False

    def as_json(self) -> dict[str, Any]:
        figures = {name: figure.as_json() for name, figure in self.figures.items()}
        return {"section": self.section, "machine": machine(), "versions": versions(), "figures": figures}

    def write(self) -> Path:
        OUT.mkdir(parents=True, exist_ok=True)
        path = OUT / f"{self.section}.json"
        report = self.as_json()
        if self.adds and path.exists():
            report["figures"] = json.loads(path.read_text())["figures"] | report["figures"]
        path.write_text(json.dumps(report, indent=2) + "\n")
        return path

    def show(self, console: Console) -> None:
        table = Table(title=f"bench: {self.section}")
        for column in ("figure", "median", "unit", "aim", "runs"):
            table.add_column(column)
        for name, figure in self.figures.items():
            runs = " ".join(f"{run:.3g}" for run in figure.runs)
            table.add_row(name, f"{figure.value:.3f}", figure.unit, figure.aim, runs)
        console.print(table)


def machine() -> dict[str, Any]:
    """What the ratios were measured on: processor, cores, kernel."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def versions() -> dict[str, str]:
    """The programs compared: each one's own first line about itself."""
    programs = ("qemu-system-x86_64", "qemu-img", "qemu-storage-daemon")
    return {program: _version(program) for program in programs} | {"python": platform.python_version()}


def _version(program: str) -> str:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return shown.splitlines()[0]
