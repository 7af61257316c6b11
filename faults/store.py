# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver's points, seen by its API for what is shown and by qemu-img for what is there."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

from machine import read
from receiving import ReceiverProcess

LISTED = 1000


def points(receiver: ReceiverProcess) -> dict[str, dict[str, Any]]:
    """The group's points by id, as shown to people; oldest first."""
    shown = receiver.call("GET", f"/points?group={receiver.group}&limit={LISTED}", role="read")
    return {point["id"]: point for point in reversed(shown.get("points", []))}


def disks(point: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(VM, disk) of a point."""
    return [(vm["vm"], disk) for vm in point["vms"] for disk in vm["disks"]]


def same_content(layer: Path, truth: Path) -> str | None:
    """What differs between a layer with its chain and a copy of the disk; None if nothing does."""
    compared = subprocess.run(
        ["qemu-img", "compare", "-U", layer, truth], capture_output=True, text=True, check=False
    )
    return None if compared.returncode == 0 else (compared.stdout + compared.stderr).strip()


def count(image: Path) -> int:
    """The guest's count in the first sector."""
    number: int = struct.unpack("<I", read(image, 4))[0]
    return number


def files_of_no_point(store: Path, known: set[str]) -> list[str]:
    """Files below ``vms`` that belong to none of these points, and anything that is temporary."""
    files = [path for path in (store / "vms").rglob("*") if path.is_file()]
    return [str(path.relative_to(store)) for path in files if _is_stray(path, known)]


def _is_stray(path: Path, known: set[str]) -> bool:
    return path.suffix in (".partial", ".tmp") or path.name.partition(".")[0] not in known
