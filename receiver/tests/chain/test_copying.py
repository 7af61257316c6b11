# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that come to a file, or do not."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livebackup_receiver.chain.copying import Copier

LIMIT = 8192


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files may not become larger: what does not fit is left out of a write, and only the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    copier = Copier(share=False)
    with (tmp_path / "layer").open("x+b", buffering=0) as file:
        with room_for(LIMIT), pytest.raises(OSError, match="File too large"):
            copier.write(file.fileno(), bytes([1]) * 3 * LIMIT, 0)
        copier.write(file.fileno(), bytes([2]) * 3 * LIMIT, 0)
    assert (tmp_path / "layer").read_bytes() == bytes([2]) * 3 * LIMIT
