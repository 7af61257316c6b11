# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain of points, each over parts of the others, and what may have become of one of its layers."""

from __future__ import annotations

from pathlib import Path

from sample_store import KIB, SampleStore, Write, run

from livebackup_receiver.model import Point

DB = ("db", "vd-a")


def five_points(store: SampleStore) -> tuple[list[Point], dict[str, bytes]]:
    """Five points of one disk, and what each holds."""
    points: list[Point] = []
    content: dict[str, bytes] = {}
    for number in range(5):
        writes = [Write(number * 128 * KIB, 192 * KIB, number + 1), Write(3 << 20, 64 * KIB, 50 + number)]
        points.append(store.add({DB: writes}))
        content[points[-1].id] = store.content[DB]
    return points, content


def extend(layer: Path, below: Path | None = None) -> None:
    """Give a layer extended L2 entries, which are none of the receiver's; somebody has converted it."""
    converted = layer.with_suffix(".converted")
    backing = f",backing_file={below.name},backing_fmt=qcow2" if below else ""
    options = ["-O", "qcow2", "-o", f"extended_l2=on{backing}"]
    run("qemu-img", "convert", *options, str(layer), str(converted), cwd=layer.parent)
    converted.rename(layer)
