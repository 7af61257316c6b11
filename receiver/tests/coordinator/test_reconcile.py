# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebackup_receiver.coordinator.reconcile import SeenBitmap, SeenDisk, judge_disk

OLD, NEW, OPEN = (f"01JD00000000000000000000{number}A" for number in range(1, 4))


def seen(*bitmaps: tuple[str, bool]) -> SeenDisk:
    found = [SeenBitmap(point=point, healthy=healthy) for point, healthy in bitmaps]
    return SeenDisk(disk="vd-a", virtual_size=1 << 30, bitmaps=found)


@pytest.mark.parametrize(
    ("bitmaps", "committed", "keep", "remove"),
    [
        ([(NEW, True)], {OLD, NEW}, NEW, []),
        ([(OLD, True), (NEW, True)], {OLD}, OLD, [NEW]),
        ([(OLD, True), (NEW, True)], {OLD, NEW}, NEW, [OLD]),
        ([(OLD, True)], {OLD, NEW}, OLD, []),
        ([(OLD, True), (NEW, False)], {OLD, NEW}, OLD, [NEW]),
        ([(OLD, True)], set(), None, [OLD]),
        ([], {OLD}, None, []),
        ([(OLD, True), (OPEN, True)], {OLD}, OLD, []),
    ],
    ids=[
        "clean",
        "crash before the commit",
        "crash between commit and finish",
        "the newest was lost",
        "inconsistent",
        "never committed",
        "nothing there",
        "a session is running",
    ],
)
def test_table(
    bitmaps: list[tuple[str, bool]], committed: set[str], keep: str | None, remove: list[str]
) -> None:
    verdict = judge_disk(seen(*bitmaps), committed=committed, open_sessions={OPEN})
    assert (verdict.keep, verdict.remove) == (keep, remove)


POINTS = [f"01JD0000000000000000000000{number}"[-26:] for number in range(6)]


@given(
    st.lists(st.tuples(st.sampled_from(POINTS), st.booleans()), unique_by=lambda each: each[0]),
    st.sets(st.sampled_from(POINTS)),
    st.sets(st.sampled_from(POINTS)),
)
def test_every_bitmap_is_kept_removed_or_its_session_s(
    bitmaps: list[tuple[str, bool]], committed: set[str], running: set[str]
) -> None:
    verdict = judge_disk(seen(*bitmaps), committed=committed, open_sessions=running)
    names = {point for point, dummy in bitmaps}
    assert set(verdict.remove) == names - running - {verdict.keep}
    if verdict.keep:
        assert (verdict.keep, True) in bitmaps
        assert verdict.keep in committed - running
