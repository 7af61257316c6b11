# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads one layer back and keeps what was found, beside everybody else who works in the store.

The layer's file is held, so that no hole is made into it. It may be replaced meanwhile by one that it was
merged into; then what was found is about a file that nobody has any more, and is not kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from livebackup_receiver.catalog.chains import layers_of_disks
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.layer_checks import record_check
from livebackup_receiver.errors import LayerDamaged, ReceiverError, StoreFailed
from livebackup_receiver.scrub.finding import Finding, LayerCheck, Result
from livebackup_receiver.scrub.reading import Pace, Subject, Unfinished, open_subject, read_back
from livebackup_receiver.store import access
from livebackup_receiver.store.paths import DiskDirectory, Store


@dataclass(frozen=True)
class Scrubbed:
    """A layer to read back, and where what is found is kept."""

    vm: str
    disk: str
    point: str
    store: Store
    catalog: Catalog

    @property
    def directory(self) -> DiskDirectory:
        return self.store.disk(self.vm, self.disk)


def scrub_layer(layer: Scrubbed, pace: Pace, *, now: datetime) -> LayerCheck | None:
    """Read a layer back; what was found, which is in the catalog then.

    None if nobody needs the layer any more, or it is being merged: then there is nothing to say of it.

    :raise GiveWay: as ``pace`` raises it
    :raise StoreFailed: the directory is not there, so there is nothing to say of its layers
    """
    if not layer.directory.path.is_dir():
        raise StoreFailed(str(layer.directory.path), "it is not there; is its file system mounted?")
    subject: Subject | None = None
    with ExitStack() as held:
        try:
            subject = held.enter_context(_hold(layer))
            finding = read_back(subject, pace)
        except Unfinished:
            return None
        except (ReceiverError, OSError) as error:
            finding = _failed(layer, error)
        check = LayerCheck(
            **finding.model_dump(), vm=layer.vm, disk=layer.disk, point=layer.point, checked_at=now
        )
        return check if _keep(layer, check, subject) else None


@contextmanager
def _hold(layer: Scrubbed) -> Iterator[Subject]:
    """The layer, open, and held together with those that say what of it is still needed."""
    directory = layer.directory
    with ExitStack() as stack:
        with access.opening([directory.path]):
            children = _children(layer) or []
            stack.enter_context(access.reading(map(directory.layer, [layer.point, *children])))
            subject = stack.enter_context(open_subject(directory, layer.point, children))
        yield subject


def _children(layer: Scrubbed) -> list[str] | None:
    """The layers on a dropped one, none for another; None if nobody needs it."""
    with layer.catalog.read() as db:
        found = layers_of_disks(db, vm=layer.vm, disk=layer.disk).get((layer.vm, layer.disk), [])
    facts = next((each for each in found if each.point == layer.point), None)
    if facts is None:
        return None
    if not facts.dropped:
        return []
    return [each.point for each in found if each.parent == layer.point] or None


def _failed(layer: Scrubbed, error: ReceiverError | OSError) -> Finding:
    """Damage of the layer itself, or why nobody can say how it is."""
    path = layer.directory.layer(layer.point)
    if isinstance(error, LayerDamaged) and error.path == str(path):
        return Finding(result=Result.DAMAGED if path.exists() else Result.UNREADABLE, problem=error.problem)
    problem = error.cause if isinstance(error, ReceiverError) else error.strerror or str(error)
    return Finding(result=Result.UNREADABLE, problem=problem)


def _keep(layer: Scrubbed, check: LayerCheck, subject: Subject | None) -> bool:
    """Write down what was found, unless the layer was replaced or removed; whether that was done."""
    with access.opening([layer.directory.path]):
        return (subject is None or _is_there(layer, subject)) and _record(layer, check)


def _is_there(layer: Scrubbed, subject: Subject) -> bool:
    try:
        named = layer.directory.layer(layer.point).stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(subject.image.descriptor))


def _record(layer: Scrubbed, check: LayerCheck) -> bool:
    if _children(layer) is None:
        return False
    with layer.catalog.write() as db:
        record_check(db, check)
    return True
