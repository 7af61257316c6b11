# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing raw files to a wanted content: whatever was there, the outcome is the same."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _copy, _nbd, _receiver
from ansible_collections.livebackup.qemu.plugins.module_utils._copy import Copying
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    ContentWrong,
    ReceiverLost,
    ReceiverOther,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._restored_image import RawFile
from ansible_collections.livebackup.qemu.plugins.module_utils._wanted import Wanted
from blake3 import blake3

CLUSTER = 65536
SIZE = 100 * CLUSTER + 1024


@contextlib.contextmanager
def raw(path: Path) -> Iterator[RawFile]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        yield RawFile(str(path), descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def content(chance: random.Random) -> bytes:
    clusters = [chance.choice([bytes(CLUSTER), chance.randbytes(CLUSTER)]) for dummy in range(101)]
    return b"".join(clusters)[:SIZE]


def wanted(data: bytes) -> Wanted:
    clusters = [data[at : at + CLUSTER].ljust(CLUSTER, b"\0") for at in range(0, len(data), CLUSTER)]
    digests = [blake3(each).digest() if any(each) else bytes(32) for each in clusters]
    runs = [(index, 1) for index, each in enumerate(clusters) if any(each)]
    return Wanted(len(data), runs, b"".join(digests))


def mixed(chance: random.Random, *contents: bytes) -> bytes:
    """Each cluster from one of the contents."""
    return b"".join(chance.choice(contents)[at : at + CLUSTER] for at in range(0, SIZE, CLUSTER))


@pytest.mark.parametrize("seed", range(8))
def test_every_cluster_comes_from_the_nearest_place_that_has_it(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    right, other = content(chance), content(chance)
    (tmp_path / "source").write_bytes(right)
    (tmp_path / "basis").write_bytes(mixed(chance, right, other)[: chance.choice([SIZE, SIZE // 2])])
    (tmp_path / "target").write_bytes(mixed(chance, right, other, bytes(SIZE)))
    stop = threading.Event()
    with (
        raw(tmp_path / "source") as source,
        raw(tmp_path / "basis") as basis,
        raw(tmp_path / "target") as target,
    ):
        copying = Copying(
            "vd-a", wanted(right), target, lambda: source.opened(stop), stop, basis=basis, resuming=True
        )
        copying.run()
    assert (tmp_path / "target").read_bytes() == right
    tally = copying.tally
    assert tally.done_bytes == tally.wanted_bytes
    assert tally.resumed_bytes > 0
    assert tally.kept_bytes > 0
    assert tally.fetched_bytes > 0


def test_nothing_wrong_is_ever_written(tmp_path: Path) -> None:
    chance = random.Random(1)
    right = chance.randbytes(SIZE)
    (tmp_path / "source").write_bytes(right[: 70 * CLUSTER] + b"x" + right[70 * CLUSTER + 1 :])
    (tmp_path / "target").write_bytes(b"")
    os.truncate(tmp_path / "target", SIZE)
    stop = threading.Event()
    with raw(tmp_path / "source") as source, raw(tmp_path / "target") as target:
        copying = Copying("vd-a", wanted(right), target, lambda: source.opened(stop), stop)
        with pytest.raises(ContentWrong, match=f"for bytes {70 * CLUSTER} to {71 * CLUSTER - 1} is not what"):
            copying.run()
    written = (tmp_path / "target").read_bytes()
    for at in range(0, SIZE, CLUSTER):
        assert written[at : at + CLUSTER] in (right[at : at + CLUSTER], bytes(len(right[at : at + CLUSTER])))


def test_the_cause_is_told_and_not_that_others_have_stopped() -> None:
    lost = ReceiverLost("lost")
    assert _copy.first_of([_nbd.Stopped(), lost, OSError()]) is lost


class Answering:
    """The narrow waist of HTTP."""

    url = "https://backup.example.com"

    def __init__(self, version: str) -> None:
        self.version = version

    def get(self, dummy: str) -> dict[str, Any]:
        return {"version": self.version}


@pytest.mark.parametrize(("version", "word"), [("0.0.9", "older"), ("0.2.0", "newer"), ("1.0", "newer")])
def test_a_receiver_of_another_version(version: str, word: str) -> None:
    with pytest.raises(ReceiverOther, match=f"has version {version}, which is {word} than version"):
        _receiver.require_same_version(Answering(version))


def test_the_last_number_does_not_matter() -> None:
    major, minor, _dummy = _receiver.VERSION.split(".")
    _receiver.require_same_version(Answering(f"{major}.{minor}.99"))


def test_the_version_is_the_collections() -> None:
    text = (Path(__file__).parents[4] / "galaxy.yml").read_text()
    assert f"\nversion: {_receiver.VERSION}\n" in text
