# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was decided about points after they were made: pins, locks, and that one is dropped.

``<store>/points/<point id>.json`` is there for such points only. It is written before the catalog, so a
catalog that is made anew from the store forgets no lock and brings back no point that was dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Model, Moment
from livebackup_receiver.store import durable
from livebackup_receiver.store.paths import MANIFEST_SUFFIX, POINT, Store


class Mark(Model):
    """The decisions about one point; null where there is none."""

    format_version: Literal[1] = 1
    point: str
    dropped_at: Moment | None = None
    pin_reason: str | None = None
    pin_until: Moment | None = None
    locked_until: Moment | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is decided."""
        return self == Mark(point=self.point)


def write_marks(store: Store, marks: Iterable[Mark]) -> None:
    """Keep the decisions about points durably, and remove the files of those about which there are none."""
    durable.make_directory(store.points)
    for mark in marks:
        path = store.mark(mark.point)
        if mark.empty:
            durable.remove_files([path])
        else:
            content = (mark.model_dump_json(indent=2) + "\n").encode()
            durable.write_file(path, content, sync_name=False)
    durable.sync_directory(store.points)


def remove_mark(store: Store, point: str) -> None:
    """Forget a point of which nothing is left."""
    durable.remove_files([store.mark(point)])


def read_marks(store: Store) -> list[Mark]:
    """Every mark of the store, by point.

    :raise ManifestInvalid: one cannot be read
    """
    found = sorted(store.points.glob(f"*{MANIFEST_SUFFIX}")) if store.points.is_dir() else []
    return [_read(path) for path in found if POINT.fullmatch(path.stem)]


def _read(path: Path) -> Mark:
    try:
        return Mark.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ManifestInvalid(str(path), error.strerror or str(error)) from None
    except ValidationError as error:
        raise ManifestInvalid(str(path), error.errors()[0]["msg"]) from None
