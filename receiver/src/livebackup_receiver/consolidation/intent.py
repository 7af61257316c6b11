# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record beside the layers that a merge is going on, so that a kill leaves no doubt about what is what.

It is written before anything of the merge, and removed when nothing of the merged layers is left. Whether
the merge has happened is said by the layer itself: its header names the new parent, or still the old one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from livebackup_receiver.consolidation.plan import Merge
from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Model
from livebackup_receiver.store import durable


class Intent(Model):
    """Layers that become one under the name of the last; see ``consolidation.plan.Merge``."""

    format_version: Literal[1] = 1
    points: tuple[str, ...]
    parent: str | None
    into: Literal["new", "lowest"]
    removes: tuple[str, ...]

    @classmethod
    def of(cls, merge: Merge) -> Intent:
        return cls(points=merge.points, parent=merge.parent, into=merge.into, removes=merge.removes)

    @property
    def merge(self) -> Merge:
        return Merge(self.points, self.parent, self.into, self.removes)


def write_intent(path: Path, merge: Merge) -> None:
    """Record durably what is about to be merged."""
    durable.write_file(path, (Intent.of(merge).model_dump_json(indent=2) + "\n").encode())


def read_intent(path: Path) -> Merge:
    """:raise ManifestInvalid: it cannot be read"""
    try:
        return Intent.model_validate_json(path.read_bytes()).merge
    except OSError as error:
        raise ManifestInvalid(str(path), error.strerror or str(error)) from None
    except ValidationError as error:
        raise ManifestInvalid(str(path), error.errors()[0]["msg"]) from None
