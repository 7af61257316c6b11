# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Goes through the disks whose layers can be consolidated, one at a time, behind everybody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from livebackup_receiver.background import in_background
from livebackup_receiver.catalog.chains import layers_of_disks
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.chain.copying import Copier
from livebackup_receiver.chain.copying import Pace as AnyPace
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.abilities import abilities_of
from livebackup_receiver.consolidation.act import Disk, carry_out
from livebackup_receiver.consolidation.compress import Incompressible, compress_layer, is_compressible
from livebackup_receiver.consolidation.fallback import merge_by_qemu
from livebackup_receiver.consolidation.plan import (
    Abilities,
    Action,
    LayerFacts,
    Merge,
    Punch,
    next_actions,
)
from livebackup_receiver.consolidation.recovery import settle
from livebackup_receiver.consolidation.turns import GiveWay, Pace, Turns, open_share
from livebackup_receiver.errors import LayerInUse, LayerUnsupported, ReceiverError
from livebackup_receiver.model import Session
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

IDLE_S = 300.0
POSTPONE_S = 5.0


@dataclass
class Consolidation:
    """Consolidates disks in this thread; remembers what was punched, which the layers do not tell.

    :param abilities: of every file system; None: each one is asked
    """

    store: Store
    catalog: Catalog
    abilities: Abilities | None
    max_depth: int
    moved_bytes: int = 0

    def __post_init__(self) -> None:
        self._punched: dict[tuple[str, str], set[Punch]] = {}
        self._tried: set[tuple[str, str, str]] = set()
        self._asked: dict[int, Abilities] = {}

    def waiting(self) -> list[Disk]:
        """The disks that something can be done for, as far as the catalog tells."""
        if not self.store.vms.is_dir():
            return []
        with self.catalog.read() as db:
            found = layers_of_disks(db)
        return [
            Disk(vm, disk, self.store, self.catalog)
            for (vm, disk), layers in found.items()
            if self.store.disk(vm, disk).path.is_dir() and self._actions(vm, disk, layers)
        ]

    def consolidate(self, disk: Disk, pace: AnyPace) -> None:
        """Do everything that can be done for a disk now; what is in use is left for the next time.

        :raise GiveWay: as ``pace`` raises it; nothing is lost
        :raise ReceiverError: a layer is damaged, in use, or of another kind
        :raise OSError: the file system refuses
        """
        if not settle(disk):
            return
        busy: set[Punch] = set()
        while actions := self._actions(disk.vm, disk.disk, self._layers(disk), busy):
            for action in actions:
                try:
                    self._carry_out(action, disk, pace)
                except LayerInUse:
                    if not isinstance(action, Punch):
                        raise
                    busy.add(action)
        if busy:
            raise LayerInUse(str(disk.directory.layer(min(each.point for each in busy))))

    def _layers(self, disk: Disk) -> list[LayerFacts]:
        with self.catalog.read() as db:
            found = layers_of_disks(db, vm=disk.vm, disk=disk.disk)
        return found.get((disk.vm, disk.disk), [])

    def _actions(
        self, vm: str, disk: str, layers: Sequence[LayerFacts], busy: Set[Punch] = frozenset()
    ) -> list[Action]:
        punched = self._punched.get((vm, disk), set()) | busy
        abilities = self._abilities(self.store.disk(vm, disk).path)
        return next_actions(layers, abilities, max_depth=self.max_depth, punched=punched)

    def _abilities(self, directory: Path) -> Abilities:
        if self.abilities is not None:
            return self.abilities
        device = directory.stat().st_dev
        if device not in self._asked:
            self._asked[device] = abilities_of(directory)
        return self._asked[device]

    def _carry_out(self, action: Action, disk: Disk, pace: AnyPace) -> None:
        copier = Copier(share=self._abilities(disk.directory.path).shares, pace=pace)
        try:
            carry_out(action, disk, copier)
        except LayerUnsupported as error:
            if not isinstance(action, Merge):
                raise
            self._merge_otherwise(action, disk, copier, error)
        finally:
            self.moved_bytes += copier.copied_bytes
        if isinstance(action, Punch):
            self._punched.setdefault((disk.vm, disk.disk), set()).add(action)

    def _merge_otherwise(self, action: Merge, disk: Disk, copier: Copier, error: LayerUnsupported) -> None:
        """What cannot be added to a file, as if compressed, goes into a new one; QEMU takes anything."""
        try:
            if action.into == "new":
                raise error
            carry_out(replace(action, into="new"), disk, copier)
        except LayerUnsupported as unsupported:
            log.info("%s; merging it by qemu-img instead", unsupported.cause)
            merge_by_qemu(action, disk, copier.pace)

    def compressible(self) -> list[tuple[Disk, LayerFacts]]:
        """The layers of kept points that are not compressed and were not tried yet."""
        with self.catalog.read() as db:
            found = layers_of_disks(db)
        return [
            (Disk(vm, disk, self.store, self.catalog), layer)
            for (vm, disk), layers in found.items()
            for layer in layers
            if not layer.dropped and (vm, disk, layer.point) not in self._tried
        ]

    def compress(self, disk: Disk, layer: LayerFacts, pace: AnyPace) -> None:
        """Compress one layer, once, even if that fails; later again if somebody else needs it now.

        :raise GiveWay: as ``pace`` raises it; nothing is lost
        :raise LayerInUse: somebody opens it
        :raise ReceiverError: it cannot be read or proven
        :raise OSError: the file system refuses
        """
        tried = (disk.vm, disk.disk, layer.point)
        self._tried.add(tried)
        try:
            if settle(disk) and is_compressible(disk.directory.layer(layer.point)):
                with suppress(Incompressible):
                    compress_layer(layer.point, layer.parent, disk, pace)
        except (GiveWay, LayerInUse):
            self._tried.remove(tried)
            raise


class Consolidator:
    """Runs a ``Consolidation`` in the background of a receiver; belongs to one event loop."""

    def __init__(
        self,
        consolidation: Consolidation,
        turns: Turns,
        config: Config,
        open_sessions: Callable[[], Sequence[Session]],
    ) -> None:
        self._consolidation = consolidation
        self._turns = turns
        self._config = config
        self._open_sessions = open_sessions
        self._wanted = asyncio.Event()
        self._postponed: set[tuple[str, str]] = set()

    def wake(self) -> None:
        """Look for work soon; points were dropped, or a session has ended."""
        self._wanted.set()

    async def repeat(self) -> None:
        """Consolidate for ever."""
        while True:
            self._wanted.clear()
            try:
                await self._pass()
            except Exception:
                log.exception("consolidation failed; it is tried again later")
            wait = POSTPONE_S if self._postponed else IDLE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wanted.wait()

    async def _pass(self) -> None:
        self._postponed = set()
        for disk in await asyncio.to_thread(self._consolidation.waiting):
            if self._turns.is_free(disk.vm):
                await self._consolidate(disk)
            else:
                self._postponed.add((disk.vm, disk.disk))
        if self._config.compression == "zstd":
            await self._compress()

    async def _compress(self) -> None:
        """Compress layers while no session runs and nothing else is to be done."""
        for disk, layer in await asyncio.to_thread(self._consolidation.compressible):
            if self._wanted.is_set() or self._postponed or self._open_sessions():
                return
            if self._turns.is_free(disk.vm):
                await self._work(disk, partial(self._consolidation.compress, disk, layer))

    async def _consolidate(self, disk: Disk) -> None:
        await self._work(disk, partial(self._consolidation.consolidate, disk))

    async def _work(self, disk: Disk, work: Callable[[Pace], None]) -> None:
        async with open_share(self._open_sessions) as share:
            pace = Pace(self._config.consolidation_bytes_per_s, share)
            try:
                # The VM is still free: since that was looked at, nothing was waited for.
                async with self._turns.work(disk.vm, pace):
                    await complete_in_thread(work, pace)
            except (GiveWay, LayerInUse):
                self._postponed.add((disk.vm, disk.disk))
            except (ReceiverError, OSError) as error:
                log.error("layers of disk %s of VM %s are left as they are: %s", disk.disk, disk.vm, error)


@asynccontextmanager
async def open_consolidator(
    consolidation: Consolidation,
    turns: Turns,
    config: Config,
    open_sessions: Callable[[], Sequence[Session]],
) -> AsyncIterator[Consolidator]:
    """A consolidator that works until the block ends; what it does then is given up, or finished."""
    consolidator = Consolidator(consolidation, turns, config, open_sessions)
    async with in_background(consolidator.repeat(), name="consolidation"):
        try:
            yield consolidator
        finally:
            turns.stop()
