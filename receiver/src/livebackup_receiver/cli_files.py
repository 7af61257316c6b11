# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that look into a point's file systems and take files out; they need no running receiver."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from livebackup_receiver import cli_file_views, cli_views, config
from livebackup_receiver.browse import extraction
from livebackup_receiver.browse.choice import split, usual
from livebackup_receiver.browse.entries import FileKind, FileSystem, Listing
from livebackup_receiver.browse.extraction import LeftOut
from livebackup_receiver.browse.guest import Guest
from livebackup_receiver.browse.names import absolute, shown
from livebackup_receiver.browse.opening import open_guest
from livebackup_receiver.catalog.presence import open_present
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.config import Config
from livebackup_receiver.encryption import read_keys
from livebackup_receiver.errors import TargetUnwritable
from livebackup_receiver.exports import Wanted, find_wanted
from livebackup_receiver.restore import on_newest_chain
from livebackup_receiver.store import durable
from livebackup_receiver.store.format import check_format
from livebackup_receiver.store.paths import Store

files_app = typer.Typer(
    no_args_is_help=True, help="Look into the file systems of a point, and take files out."
)
PAGE = 1000
T = TypeVar("T")

PointId = Annotated[str, typer.Argument(help="Id of the point; `points` lists them.")]
Vm = Annotated[str, typer.Option(help="The VM whose disks to look into.")]
AcceptDamage = Annotated[
    bool, typer.Option("--accept-damage", help="Also if the disks are known to be damaged at this point.")
]
PATH_HELP = (
    "As FILE_SYSTEM:/PATH, such as sda1:/etc/hosts. Without a file system: in the only one there is, else "
    "where the guest itself mounts it."
)


@files_app.command("list")
def list_files(
    point: PointId,
    vm: Vm,
    path: Annotated[str | None, typer.Argument(help=PATH_HELP)] = None,
    offset: Annotated[int, typer.Option(min=0, help="Pass over so many entries.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many entries.")] = 100_000,
    accept_damage: AcceptDamage = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the file systems of a VM's disks, or a directory in one of them."""

    _check([path] if path else [])

    async def look(guest: Guest) -> list[FileSystem] | Listing:
        if path is None:
            return guest.file_systems
        return await _list(guest, *_place(guest, path), offset=offset, limit=limit)

    found = _in_guest(config.load(config_file), point, vm, accept_damage, look)
    if isinstance(found, Listing):
        cli_views.show(cli_file_views.listing_table(found), found.model_dump(mode="json"), as_json)
        cli_file_views.say("" if as_json else cli_file_views.rest_of(found))
    else:
        facts = {"file_systems": cli_views.plain(found)}
        cli_views.show(cli_file_views.file_systems_table(found), facts, as_json)


@files_app.command("get")
def get_files(
    point: PointId,
    vm: Vm,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help=PATH_HELP)],
    to: Annotated[Path, typer.Option(help="Directory to write into; nothing in it is replaced.")],
    archive: Annotated[
        bool,
        typer.Option(
            "--tar", help="Write directories as tar archives, with owners, modes, links and devices in them."
        ),
    ] = False,
    accept_damage: AcceptDamage = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take files and directories out. Links, devices and the like are left out, and named."""
    _check(paths)
    _make_directory(to)
    get = partial(_get_all, paths=paths, to=to, archive=archive)
    written, left_out = _in_guest(config.load(config_file), point, vm, accept_damage, get)
    names = [shown(os.fsencode(each)) for each in written]
    facts = {"point": point, "vm": vm, "files": names, "left_out": [each._asdict() for each in left_out]}
    cli_views.show("\n".join(names), facts, as_json)
    cli_file_views.say("" if as_json else cli_file_views.left_out(left_out))


def _in_guest(
    options: Config, point: str, vm: str, accept_damage: bool, act: Callable[[Guest], Awaitable[T]]
) -> T:
    """Do something in a guest that sees the disks of the point."""
    store = Store(options.store)
    check_format(store)

    async def opened(wanted: Wanted) -> T:
        async with open_guest(wanted, options) as guest:
            return await act(guest)

    with using(read_keys(options)), open_present(options) as catalog:
        plan = partial(find_wanted, catalog, store, point, vm, accept_damage=accept_damage)
        with cli_file_views.waiting("A throw-away guest is started, which takes some seconds ..."):
            return asyncio.run(on_newest_chain(plan, opened))


def _check(paths: list[str]) -> None:
    """What cannot be meant is said before a guest is started."""
    for path in paths:
        absolute(split(path)[1])


def _make_directory(path: Path) -> None:
    try:
        durable.make_directory(path)
    except OSError as error:
        raise TargetUnwritable(str(path), error.strerror or str(error)) from None


def _place(guest: Guest, path: str) -> tuple[str, str]:
    name, below = split(path)
    return name or usual(guest.file_systems), below


async def _list(guest: Guest, name: str, path: str, *, offset: int, limit: int) -> Listing:
    found = await guest.list(name, path, offset=offset, limit=min(limit, PAGE))
    entries = list(found.entries)
    while len(entries) < limit and offset + len(entries) < found.total:
        more = await guest.list(
            name, path, offset=offset + len(entries), limit=min(limit - len(entries), PAGE)
        )
        if not more.entries:
            break
        entries += more.entries
    return found.model_copy(update={"entries": entries})


async def _get_all(
    guest: Guest, *, paths: list[str], to: Path, archive: bool
) -> tuple[list[Path], list[LeftOut]]:
    written: list[Path] = []
    left_out: list[LeftOut] = []
    for path in paths:
        target, left = await _get(guest, *_place(guest, path), to=to, archive=archive)
        written.append(target)
        left_out += left
    return written, left_out


async def _get(guest: Guest, name: str, path: str, *, to: Path, archive: bool) -> tuple[Path, list[LeftOut]]:
    base = absolute(path).rpartition(b"/")[2] or name.replace("/", "-").encode()
    look = await guest.look(name, path)
    left: list[LeftOut] = []
    async with guest.content(name, path) as parts:
        if look.kind is FileKind.DIRECTORY and not archive:
            left = await extraction.write_tree(parts, to, base, f"{name}:{path}")
        else:
            base += b".tar" if look.kind is FileKind.DIRECTORY else b""
            await extraction.write_file(parts, to, base)
    return to / os.fsdecode(base), left
