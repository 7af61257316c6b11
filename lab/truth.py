# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The independent truth: copies of every disk, taken while the machines stand still, without the product.

Each hypervisor has `livebackup-lab-truth`, to be used as the participant's `cut_hook`. What a restore yields
is compared with these copies by `qemu-img compare`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lab import paths
from lab.process import run

SCRIPT = paths.PACKAGE / "truth.sh"
COMMAND = "/usr/local/sbin/livebackup-lab-truth"
DIRECTORY = "/var/lib/livebackup-lab/truth"


class Verdict(Enum):
    EQUAL = "equal"
    DIFFERS = "differs"
    UNKNOWN = "could not compare"


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison, with what qemu-img said."""

    verdict: Verdict
    said: str


def install(root: Path) -> None:
    """Put the script into the root tree `root`."""
    target = root / COMMAND.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"#!/bin/sh\n{SCRIPT.read_text()}")
    target.chmod(0o755)


def copy_path(session: str, vm: str, letter: str, format: str = "qcow2") -> str:
    """Where a hypervisor keeps the true copy of a disk."""
    return f"{DIRECTORY}/{session}/{vm}-{letter}.{format}"


def compare(restored: Path, true_copy: Path) -> Comparison:
    """Compare what two images (any format, chain or flat) hold, byte for byte as a guest would read them."""
    for image in (restored, true_copy):
        if not image.exists():
            return Comparison(Verdict.UNKNOWN, f"there is no image {image}")
    done = run(["qemu-img", "compare", "-U", str(restored), str(true_copy)], check=False, timeout=600)
    verdict = {0: Verdict.EQUAL, 1: Verdict.DIFFERS}.get(done.returncode, Verdict.UNKNOWN)
    return Comparison(verdict, (done.stdout + done.stderr).strip())
