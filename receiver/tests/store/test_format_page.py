# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that describes the store is tried out: its programs run as they are printed, on a real store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from damaging import CLUSTER, flip
from encrypted_layers import KEY, copy_of, make_layer
from sample_store import SampleStore, Write, read_image, run

from livebackup_receiver.model import Point
from livebackup_receiver.store.manifest import Manifest

PAGE = Path(__file__).parents[3] / "docs/docsite/rst/store.rst"
B3SUM = """#!/bin/sh
exec {python} -c '
import sys
from blake3 import blake3
digest = blake3(sys.stdin.buffer.read())
sys.stdout.buffer.write(digest.digest() if "--raw" in sys.argv else digest.hexdigest().encode() + b"\\n")
' "$@"
"""


def printed(caption: str) -> str:
    """A program of the page."""
    text = PAGE.read_text()
    start = text.index(f"   :caption: {caption}\n") + len(f"   :caption: {caption}\n")
    lines: list[str] = []
    for line in text[start:].splitlines():
        if line and not line.startswith("   "):
            break
        lines.append(line.removeprefix("   "))
    return "\n".join(lines) + "\n"


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """Runs a program of the page as a person would, away from our sources."""

    def run_program(caption: str, *arguments: object) -> str:
        path = tmp_path / caption
        path.write_text(printed(caption))
        return run(sys.executable, "-I", str(path), *map(str, arguments))

    return run_program


@pytest.mark.parametrize("locked", [(True, True, True), (False, True, False)])
def test_an_encrypted_disk_is_restored_by_hand(tmp_path: Path, locked: tuple[bool, ...]) -> None:
    layers = [
        make_layer(tmp_path, number, 1 << 20, f"write -P {number + 1} {number * CLUSTER} 64k", locked=each)
        for number, each in enumerate(locked)
    ]
    script, key, target = tmp_path / "script", tmp_path / "key", tmp_path / "target.qcow2"
    script.write_text(printed("restore-encrypted.sh"))
    key.write_bytes(KEY)
    run("sh", str(script), str(layers[-1]), str(key), str(target))
    assert read_image(target, "qcow2", tmp_path) == copy_of(layers[-1]).read_bytes()


@pytest.fixture
def points(store: SampleStore) -> list[Point]:
    """Three points; the second overwrites with zeros, and the third leaves a part of a cluster."""
    disk = ("db", "vd-a")
    return [
        store.add({disk: [Write(0, 5 * CLUSTER, 1), Write(30 * CLUSTER, CLUSTER, 2)]}),
        store.add({disk: [Write(CLUSTER, 2 * CLUSTER, 0)]}),
        store.add({disk: [Write(40 * CLUSTER + 512, 1024, 3)]}),
    ]


def restored(store: SampleStore, point: Point, scratch: Path) -> Path:
    """What the page says about restoring with nothing else than qemu-img."""
    raw = scratch / f"{point.id}.raw"
    run("qemu-img", "convert", "-O", "raw", str(store.layer(point)), str(raw))
    return raw


def test_the_root_of_every_point_is_that_of_its_restored_disk(
    store: SampleStore, points: list[Point], program: Callable[..., str], tmp_path: Path
) -> None:
    for point in points:
        found = program("root.py", restored(store, point, tmp_path)).strip()
        assert found == point.vms[0].disks[0].root
        manifest = store.layer(point).with_suffix(".json").read_text()
        assert f'"root": "{found}"' in manifest


def test_a_disk_of_more_than_one_group_and_of_an_odd_size(
    program: Callable[..., str], tmp_path: Path
) -> None:
    from livebackup_receiver.store.digests import read_table, root_of, write_table

    layer, raw = tmp_path / "large.qcow2", tmp_path / "large.raw"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(layer), str((2 << 30) + 4608))
    for place in ("0 64k", "2G 4608"):
        run("qemu-io", "-c", f"write -P 7 {place}", str(layer))
    write_table(layer, tmp_path / "large.digests")
    with raw.open("wb") as file:
        file.truncate((2 << 30) + 4608)
    run("qemu-img", "convert", "-n", "-O", "raw", str(layer), str(raw))
    assert program("root.py", raw).strip() == root_of([read_table(tmp_path / "large.digests")])


def test_the_example_by_hand_gives_what_is_printed(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    b3sum = tools / "b3sum"
    b3sum.write_text(B3SUM.format(python=sys.executable))
    b3sum.chmod(0o755)
    path = f"{os.environ['PATH']}:{tools}"
    done = subprocess.run(
        ["sh", "-e", "-c", printed("two-clusters.sh")],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"This prints ``{done.stdout.strip()}``." in PAGE.read_text()


def test_a_damaged_cluster_is_found_by_hand(
    store: SampleStore, points: list[Point], program: Callable[..., str], tmp_path: Path
) -> None:
    for point in points:
        assert program("where.py", store.layer(point), restored(store, point, tmp_path)) == ""
    flip(store.layer(points[0]), 3 * CLUSTER)
    flip(store.layer(points[2]), 40 * CLUSTER + 600)
    found = program("where.py", store.layer(points[2]), restored(store, points[2], tmp_path))
    assert found.splitlines() == [
        f"bytes {3 * CLUSTER} to {4 * CLUSTER} are damaged",
        f"bytes {40 * CLUSTER} to {41 * CLUSTER} are damaged",
    ]


def test_every_field_of_a_manifest_is_described() -> None:
    described = set(re.findall(r"``([a-z_]+)``", PAGE.read_text()))
    assert set(Manifest.model_fields) <= described
