# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall clock of records."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The time in UTC to the millisecond, which is what JSON keeps of it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
