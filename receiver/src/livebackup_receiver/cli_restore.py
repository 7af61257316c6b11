# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that writes disks of a point into files; it works beside a running receiver and without one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import humanize
import typer

from livebackup_receiver import cli_views, config
from livebackup_receiver.catalog import points
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.presence import open_present
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.cli_progress import RestoreProgress
from livebackup_receiver.convert import Format
from livebackup_receiver.encryption import read_keys
from livebackup_receiver.errors import LayerDamaged, NameTaken, OptionsUnclear, PointDamaged, VmUnknown
from livebackup_receiver.restore import (
    DiskRestore,
    RestorePlan,
    Wish,
    on_newest_chain,
    plan_restore,
    select,
)
from livebackup_receiver.restoring.act import restore
from livebackup_receiver.restoring.manner import JOBS, Manner, Restored
from livebackup_receiver.scrub.finding import Finding, Result
from livebackup_receiver.scrub.known import refusal_of, refusal_of_ranges, require_sound
from livebackup_receiver.store.format import check_format
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.ranges import Range, words


def restore_point(
    point: Annotated[str, typer.Argument(help="Id of the point; `points` lists them.")],
    to: Annotated[Path, typer.Option(help="Directory for the files, <vm>/<disk>.<format>.")],
    vm: Annotated[
        list[str] | None, typer.Option(help="Only this VM; may be repeated. Every VM, if not given.")
    ] = None,
    disk: Annotated[list[str] | None, typer.Option(help="Only this disk; may be repeated.")] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="Another name for the only VM: the files go to <name>/.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Format of the files.")] = Format.QCOW2,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist and are not in use.")
    ] = False,
    delta: Annotated[
        bool,
        typer.Option(
            "--delta",
            help="Replace older copies that are not in use, and read from the store only what differs.",
        ),
    ] = False,
    verify: Annotated[
        bool, typer.Option(help="Read the files back and compare them with the point's digests.")
    ] = True,
    accept_damage: Annotated[
        bool,
        typer.Option(
            "--accept-damage", help="Restore a damaged point, and say what of it is lost; exit code 10 then."
        ),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Disks at once.")] = JOBS,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write disks, as they were at a point, into image files: of a VM, some, or the whole group.

    All files appear when all are complete, or none does. If it is killed, the same command goes on where it
    was. A qcow2 file carries the bitmap of the point, so the next backup of its VM is incremental.
    """
    manner = Manner(force, verify, delta, accept_damage, jobs)
    _require_clear(manner)
    options = config.load(config_file)
    store = Store(options.store)
    check_format(store)
    wish = Wish(vm or (), disk or (), name)
    with using(read_keys(options)), open_present(options) as catalog:
        plan = partial(_plan, catalog, store, point, wish, to, format)
        for each in (first := plan()).disks:
            require_sound(catalog, store, point, each.vm, [each.disk], accept_damage=accept_damage)
        try:
            done = asyncio.run(_restore(plan, catalog, store, point, manner))
        except LayerDamaged as error:
            raise _named(catalog, store, first, error) from None
    _tell(point, done, as_json=as_json)
    if any(each.lost for each in done):
        raise typer.Exit(PointDamaged.exit_code)


def _require_clear(manner: Manner) -> None:
    """:raise OptionsUnclear: an option needs the comparison that another one leaves out"""
    for option, given in (("--delta", manner.delta), ("--accept-damage", manner.accept_damage)):
        if given and not manner.verify:
            raise OptionsUnclear(
                f"{option} needs the digests, which --no-verify leaves out", "give one of both"
            )


async def _restore(
    plan: Callable[[], RestorePlan], catalog: Catalog, store: Store, point: str, manner: Manner
) -> list[Restored]:
    def judge(disk: DiskRestore, found: Mapping[str, Sequence[Range]]) -> PointDamaged:
        return refusal_of_ranges(catalog, store, point, disk.vm, disk.disk, found)

    with RestoreProgress() as progress:
        act = partial(
            restore,
            manner=manner,
            judge=judge,
            on_progress=progress.update,
            recheck=partial(points.require_point, catalog, point),
        )
        return await on_newest_chain(plan, act)


def _plan(catalog: Catalog, store: Store, point: str, wish: Wish, to: Path, format: Format) -> RestorePlan:
    with catalog.read() as db:
        found = points.load_point(db, point)
        chains = {
            (vm, disk): points.disk_chain(db, point=point, vm=vm, disk=disk)
            for vm, disk in select(found, wish)
        }
    _require_free(catalog, wish.name, {vm for vm, dummy in chains})
    return plan_restore(found, chains, store=store.root, directory=to, format=format, name=wish.name)


def _require_free(catalog: Catalog, name: str | None, vms: set[str]) -> None:
    """:raise NameTaken: another VM has points under the new name, which its next backup would go on with"""
    if name is None or name in vms:
        return
    with catalog.read() as db:
        try:
            points.require_vm(db, name)
        except VmUnknown:
            return
    raise NameTaken(f"VM {name}")


def _named(
    catalog: Catalog, store: Store, plan: RestorePlan, error: LayerDamaged
) -> PointDamaged | LayerDamaged:
    """The damage of a layer as that of a disk at the point."""
    for disk in plan.disks:
        for layer in disk.layers:
            if str(layer) == error.path:
                found = {layer.stem: Finding(result=Result.DAMAGED, problem=error.problem)}
                return refusal_of(catalog, store, plan.point, disk.vm, disk.disk, found)
    return error


def _tell(point: str, done: Sequence[Restored], *, as_json: bool) -> None:
    lost = [
        {
            "vm": each.disk.vm,
            "disk": each.disk.disk,
            "ranges": [{"offset": offset, "length": length} for offset, length in each.lost],
        }
        for each in done
        if each.lost
    ]
    files = [str(each.disk.target) for each in done]
    facts = {"point": point, "disks": [_facts(each) for each in done], "files": files, "lost": lost}
    for sentence in (said for each in done for said in _notes(each)):
        print(sentence, file=sys.stderr)
    cli_views.show("\n".join(files), facts, as_json)


def _facts(done: Restored) -> dict[str, Any]:
    return {
        "vm": done.disk.vm,
        "disk": done.disk.disk,
        "file": str(done.disk.target),
        "moved_bytes": done.moved_bytes,
        "taken_bytes": done.taken_bytes,
        "resumed_bytes": done.resumed_bytes,
        "tracked": done.tracked,
    }


def _notes(done: Restored) -> list[str]:
    """What is worth a sentence, for people."""
    name = f"disk {done.disk.disk} of VM {done.disk.vm}"
    notes = []
    if done.resumed_bytes:
        notes.append(f"{name}: went on where an earlier run had ended, after {_size(done.resumed_bytes)}")
    if done.taken_bytes:
        notes.append(
            f"{name}: {_size(done.moved_bytes)} came from the store, and {_size(done.taken_bytes)} from the "
            "older copy"
        )
    if done.lost:
        notes.append(f"{name}: LOST, because it is damaged in the store: bytes {words(done.lost)}")
    return notes


def _size(count: int) -> str:
    return humanize.naturalsize(count, binary=True)
