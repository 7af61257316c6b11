# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that reads layers back; it works beside a running receiver and without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from livebackup_receiver import cli_views, config
from livebackup_receiver.catalog import layer_checks, points
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.presence import open_present
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.cli_options import ConfigFile
from livebackup_receiver.clock import now
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.turns import Pace
from livebackup_receiver.encryption import read_keys
from livebackup_receiver.errors import DiskUnknown, LayerDamaged, StoreFailed
from livebackup_receiver.scrub.act import Scrubbed, scrub_layer
from livebackup_receiver.scrub.choice import Candidate, choose
from livebackup_receiver.scrub.finding import LayerCheck, Result
from livebackup_receiver.scrub.known import known_damage
from livebackup_receiver.scrub.verdict import damage_words
from livebackup_receiver.store.format import check_format
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.ranges import words

EXIT_CODES = {
    Result.GOOD: 0,
    Result.UNREADABLE: StoreFailed.exit_code,
    Result.DAMAGED: LayerDamaged.exit_code,
}
COLORS = {Result.GOOD: "green", Result.UNREADABLE: "yellow", Result.DAMAGED: "red"}


def scrub(
    vm: Annotated[str | None, typer.Option(help="Only layers of this VM.")] = None,
    disk: Annotated[str | None, typer.Option(help="Only layers of disks of this name.")] = None,
    point: Annotated[str | None, typer.Option(help="Only layers that this point is read from.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All layers, and not only those that are due today.")
    ] = False,
    bytes_per_s: Annotated[int, typer.Option(min=0, help="Most bytes to read per second; 0: no limit.")] = 0,
    config_file: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Read layers back and compare them with their digests.

    Without an option, what is due today. Exit code 0: all good, 10: damage, 8: something could not be read.
    """
    options = config.load(config_file)
    store = Store(options.store)
    check_format(store)
    with using(read_keys(options)), open_present(options) as catalog:
        layers = _choose(catalog, options, vm, disk, point, everything=everything)
        checks = list(_scrub(layers, store, catalog, bytes_per_s))
        hurt = [said for each in known_damage(catalog, store) if (said := damage_words(each))]
    _show(checks, hurt, left_out=len(layers) - len(checks), as_json=as_json)
    worst = max((check.result for check in checks), key=lambda each: each.severity, default=Result.GOOD)
    raise typer.Exit(EXIT_CODES[worst])


def _show(checks: Sequence[LayerCheck], hurt: Sequence[str], *, left_out: int, as_json: bool) -> None:
    facts = {"layers": cli_views.plain(checks), "damage": hurt, "left_out": left_out}
    cli_views.show(_table(checks), facts, as_json)
    notes = [f"left out, because they are being merged or no longer needed: {left_out}"] if left_out else []
    if not as_json and (hurt or notes):
        print("\n".join([*hurt, *notes]))


def _choose(
    catalog: Catalog,
    options: Config,
    vm: str | None,
    disk: str | None,
    point: str | None,
    *,
    everything: bool,
) -> list[Candidate]:
    with catalog.read() as db:
        layers = layer_checks.candidates(db)
        if vm:
            points.require_vm(db, vm)
    if not (vm or disk or point or everything):
        return choose(layers, now=now(), days=options.scrub_days)
    chosen = [each for each in layers if vm in (None, each.vm) and disk in (None, each.disk)]
    if point:
        chosen = _read_by(catalog, point, chosen)
    if disk and not chosen:
        raise DiskUnknown(vm or "any", disk, f"point {point}" if point else "this receiver")
    return chosen


def _read_by(catalog: Catalog, point: str, layers: Sequence[Candidate]) -> list[Candidate]:
    """Of these layers those that a point is read from.

    :raise PointUnknown: there is no such point
    :raise DiskUnknown: a layer that it needs is not in the catalog
    """
    with catalog.read() as db:
        held = [(vm.vm, each.disk) for vm in points.load_point(db, point).vms for each in vm.disks]
        needed = {
            (vm, disk, each.point)
            for vm, disk in held
            for each in points.disk_chain(db, point=point, vm=vm, disk=disk)
        }
    return [each for each in layers if (each.vm, each.disk, each.point) in needed]


def _scrub(
    layers: Sequence[Candidate], store: Store, catalog: Catalog, bytes_per_s: int
) -> Iterator[LayerCheck]:
    pace = Pace(bytes_per_s, lambda: 1.0)
    screen = Console(stderr=True)
    for each in track(layers, "reading", console=screen, disable=not screen.is_terminal):
        check = scrub_layer(Scrubbed(each.vm, each.disk, each.point, store, catalog), pace, now=now())
        if check is not None:
            yield check


def _table(checks: Sequence[LayerCheck]) -> Table | str:
    """One line per layer."""
    if not checks:
        return "there is nothing to read"
    table = Table(box=None, pad_edge=False)
    for column in ("State", "VM", "Disk", "Layer", "Found"):
        table.add_column(column, overflow="fold")
    for check in checks:
        found = check.problem or ""
        if check.ranges:
            found += f": bytes {words(check.ranges)}"
        table.add_row(f"[{COLORS[check.result]}]{check.result}", check.vm, check.disk, check.point, found)
    return table
