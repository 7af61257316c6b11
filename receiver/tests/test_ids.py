# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from livebackup_receiver.ids import next_id

IDS = st.integers(min_value=0, max_value=(1 << 128) - 2).map(lambda number: str(ULID.from_int(number)))


@given(IDS)
def test_ids_grow_even_if_the_clock_was_set_back(newest: str) -> None:
    assert next_id(newest) > newest
    ULID.from_str(next_id(newest))


def test_the_first_id_is_of_now() -> None:
    assert next_id(None) > str(ULID.from_timestamp(1_700_000_000))
