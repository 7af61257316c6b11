# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is proven to be the same, and that everything else counts as changed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils._compare_plugin import (
    CLUSTER_BYTES,
    DIGEST_BYTES,
    PULSE,
    Comparer,
)
from blake3 import blake3

SIZE = 4 * CLUSTER_BYTES + 4608
ONES, TWOS = b"\1" * CLUSTER_BYTES, b"\2" * CLUSTER_BYTES
TAIL = b"\3" * 4608
NOTHING = bytes(DIGEST_BYTES)


@pytest.fixture
def proven() -> bytearray:
    return bytearray(PULSE.size + 5)


@pytest.fixture
def comparer(proven: bytearray) -> Comparer:
    """The head: ones, zeros, twos, zeros, and a tail that does not fill its cluster."""
    tail = blake3(TAIL.ljust(CLUSTER_BYTES, b"\0")).digest()
    digests = blake3(ONES).digest() + NOTHING + blake3(TWOS).digest() + NOTHING + tail
    return Comparer(SIZE, digests, proven, blake3)


def same(proven: bytearray) -> list[int]:
    return [index for index, byte in enumerate(proven[PULSE.size :]) if byte]


@pytest.mark.parametrize(
    ("data", "offset", "expected"),
    [
        (ONES, 0, [0]),
        (TWOS, 0, []),
        (ONES + bytes(CLUSTER_BYTES) + TWOS, 0, [0, 1, 2]),
        (ONES + ONES + TWOS, 0, [0, 2]),
        (TAIL, 4 * CLUSTER_BYTES, [4]),
        (TAIL[:-512], 4 * CLUSTER_BYTES, []),
        # halves of a cluster prove nothing, nor does what begins inside one
        (ONES[: CLUSTER_BYTES // 2], 0, []),
        (bytes(CLUSTER_BYTES), CLUSTER_BYTES // 2, []),
    ],
)
def test_data(comparer: Comparer, proven: bytearray, data: bytes, offset: int, expected: list[int]) -> None:
    comparer.write(memoryview(data), offset)
    assert same(proven) == expected


@pytest.mark.parametrize(
    ("count", "offset", "expected"),
    [
        (CLUSTER_BYTES, CLUSTER_BYTES, [1]),
        (SIZE, 0, [1, 3]),
        (CLUSTER_BYTES - 1, CLUSTER_BYTES, []),
        (2 * CLUSTER_BYTES, CLUSTER_BYTES // 2, [1]),
        (4608, 4 * CLUSTER_BYTES, []),
        (512, 512, []),
    ],
)
def test_zeros(comparer: Comparer, proven: bytearray, count: int, offset: int, expected: list[int]) -> None:
    comparer.zero(count, offset)
    assert same(proven) == expected


def test_a_zero_tail_is_zero(proven: bytearray) -> None:
    Comparer(SIZE, NOTHING * 5, proven, blake3).zero(SIZE, 0)
    assert same(proven) == [0, 1, 2, 3, 4]


def test_each_request_shows_that_it_lives(comparer: Comparer, proven: bytearray) -> None:
    def pulse() -> Any:
        return PULSE.unpack_from(proven)[0]

    comparer.write(memoryview(TWOS), 0)
    comparer.zero(CLUSTER_BYTES, 0)
    assert pulse() == 2
