# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a directory, one step for each part of its path. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """A directory on the way: its name, and its path."""

    name: str
    path: str


def trail_of(path: str) -> list[Step]:
    """From the first directory below the root to the last."""
    parts = [part for part in path.split("/") if part]
    return [Step(part, "/" + "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


def below(path: str, name: str) -> str:
    """The path of a name in a directory."""
    return f"{path.rstrip('/')}/{name}"
