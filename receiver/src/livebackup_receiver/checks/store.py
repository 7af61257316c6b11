# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the store: its file systems, and the layers in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import humanize

from livebackup_receiver.catalog import layers
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.checks.result import Check, CheckState, Inspection, failed, ok, warning
from livebackup_receiver.consolidation.abilities import abilities_of, describe
from livebackup_receiver.consolidation.plan import Abilities
from livebackup_receiver.errors import ReceiverError
from livebackup_receiver.rooms import outlooks
from livebackup_receiver.scrub import health
from livebackup_receiver.store import durable
from livebackup_receiver.store.format import check_format
from livebackup_receiver.store.manifest import read_manifest
from livebackup_receiver.store.outlook import Outlook
from livebackup_receiver.store.paths import MANIFEST_SUFFIX, Store

DAYS_WARNED = 3.0
LAYERS_NAMED = 3


async def check_root(inspection: Inspection) -> list[Check]:
    """Whether files can be made in the store, and are durable there."""
    root = inspection.config.store
    probe = root / f".check-{os.getpid()}"
    await asyncio.to_thread(check_format, Store(root))
    try:
        await asyncio.to_thread(_write_and_remove, probe)
    except OSError as error:
        message = (
            f"{root} cannot be written ({error.strerror}); give it to the receiver's user and check its disk"
        )
        return [failed("store", message)]
    return [ok("store", f"{root} can be written and synced")]


def _write_and_remove(probe: Path) -> None:
    durable.write_file(probe, b"livebackup\n")
    durable.remove_files([probe])


async def check_room(inspection: Inspection) -> list[Check]:
    """One result for each volume."""
    found = await asyncio.to_thread(outlooks, inspection.config, inspection.catalog, now=inspection.now)
    return [judge_room(each, inspection.config.min_free_bytes) for each in found]


def judge_room(outlook: Outlook, reserve: int) -> Check:
    """One volume by what is free, and by how long that will do; pure.

    :param reserve: bytes that must stay free
    """
    sizes = f"{_size(outlook.free_bytes)} free in {outlook.volume}, {_size(reserve)} must stay free"
    if outlook.growth_bytes_per_day:
        growth = _size(outlook.growth_bytes_per_day)
        sizes += f"; {growth} are stored a day, enough for {outlook.days_left:g} days"
    if outlook.freeable_bytes:
        sizes += f"; up to {_size(outlook.freeable_bytes)} of dropped points come back by themselves"
    if outlook.free_bytes < reserve:
        return failed("room", f"only {sizes}; free space or make it larger")
    if outlook.free_bytes < 2 * reserve or (outlook.days_left or DAYS_WARNED) < DAYS_WARNED:
        return warning("room", f"only {sizes}; plan for more space")
    return ok("room", sizes)


async def check_file_systems(inspection: Inspection) -> list[Check]:
    """One result for each volume: what its file system lets the receiver do with dropped points."""
    volumes = [inspection.config.store, *inspection.config.volumes]
    depth = inspection.config.max_chain_depth
    return [await asyncio.to_thread(_look_at_file_system, each, depth) for each in volumes]


def _look_at_file_system(volume: Path, max_depth: int) -> Check:
    try:
        return judge_file_system(abilities_of(volume), volume, max_depth)
    except OSError as error:
        message = f"nothing can be written in {volume} ({error.strerror}); is its file system mounted?"
        return failed("file-system", message)


def judge_file_system(abilities: Abilities, volume: Path, max_depth: int) -> Check:
    """Whether room comes back by itself; pure."""
    judged = ok if abilities.shares or abilities.punches else warning
    return judged("file-system", describe(abilities, volume, max_depth=max_depth))


async def check_layers(inspection: Inspection) -> list[Check]:
    """Whether every layer that the catalog knows is there, as large as it was made."""
    found = await asyncio.to_thread(_list_layers, inspection.catalog)
    problems = await asyncio.to_thread(_layer_problems, inspection.config.store, found)
    if not problems:
        message = f"all {len(found)} layers are there, each with the size its manifest says"
        return [ok("layers", message)]
    named = ", ".join(problems[:LAYERS_NAMED])
    more = f" and {len(problems) - LAYERS_NAMED} more" if len(problems) > LAYERS_NAMED else ""
    message = (
        f"{named}{more}; bring the files back from a copy of the store, or points that need them are lost"
    )
    return [failed("layers", message)]


def _list_layers(catalog: Catalog) -> list[str]:
    with catalog.read() as db:
        return layers.list_layers(db)


def _layer_problems(store: Path, names: Sequence[str]) -> list[str]:
    return [problem for name in names if (problem := _layer_problem(store / name, name))]


def _layer_problem(path: Path, name: str) -> str | None:
    try:
        size = path.stat().st_size
        expected = read_manifest(path.with_suffix(MANIFEST_SUFFIX)).layer_size
    except FileNotFoundError:
        return f"{name} is missing"
    except ReceiverError as error:
        return error.cause
    return None if size == expected else f"{name} has {size:,} bytes instead of {expected:,}"


async def check_scrub(inspection: Inspection) -> list[Check]:
    """What reading the layers back has shown."""
    store, options = Store(inspection.config.store), inspection.config
    found = await asyncio.to_thread(
        health.report, inspection.catalog, store, now=inspection.now, days=options.scrub_days
    )
    return [Check(name="scrub", state=CheckState(found.state), message=found.message)]


def _size(count: int) -> str:
    return humanize.naturalsize(count, binary=True)
