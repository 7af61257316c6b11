# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids of sessions and points: ULIDs that only ever grow, so that their order is that of the points."""

from __future__ import annotations

from ulid import ULID


def next_id(newest: str | None) -> str:
    """A new id, greater than the newest one even if the clock was set back."""
    fresh = ULID()
    if newest is None or str(fresh) > newest:
        return str(fresh)
    return str(ULID.from_int(int(ULID.from_str(newest)) + 1))
