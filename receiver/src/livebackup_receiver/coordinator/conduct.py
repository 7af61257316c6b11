# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a session runs, from its opening to commit or abort.

``_perform`` is the story; whatever goes wrong in it, or interrupts it, ends in ``_abort``, which
leaves no daemon and no file of the session behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebackup_receiver import faultpoints
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.catalog.journal import Journal
from livebackup_receiver.clock import now
from livebackup_receiver.completion import complete_in_thread
from livebackup_receiver.config import Config
from livebackup_receiver.consolidation.turns import Turns
from livebackup_receiver.coordinator import membership, prepare, transitions
from livebackup_receiver.coordinator.receipt import receipt_of
from livebackup_receiver.coordinator.seal import seal
from livebackup_receiver.coordinator.session import LiveSession
from livebackup_receiver.coordinator.watch import Watch
from livebackup_receiver.errors import NobodyLeft, ReceiverError, StoreFailed
from livebackup_receiver.model import ParticipantState, SessionState, Transfer, TransferState
from livebackup_receiver.storage_daemon.intake import Intake, open_intake
from livebackup_receiver.storage_daemon.ports import PortRange
from livebackup_receiver.store import durable, room, volumes
from livebackup_receiver.store.manifest import Manifest, point_of
from livebackup_receiver.store.paths import Store

log = logging.getLogger(__name__)

# Barriers, each with the state of the session once all participants have reached it.
Barriers = tuple[tuple[ParticipantState, SessionState], ...]
CUT: Barriers = (
    (ParticipantState.PREPARED, SessionState.STOPPING),
    (ParticipantState.STOPPED, SessionState.CUTTING),
    (ParticipantState.CUT, SessionState.TRANSFERRING),
)
TRANSFER: Barriers = ((ParticipantState.TRANSFERRED, SessionState.SEALING),)


@dataclass(frozen=True)
class Stage:
    """What every session plays on."""

    config: Config
    store: Store
    catalog: Catalog
    journal: Journal
    ports: PortRange
    turns: Turns


async def conduct(live: LiveSession, stage: Stage, watch: Watch) -> None:
    """Run a session to its end, which is then in the catalog."""
    performance = asyncio.create_task(_perform(live, stage, watch))
    ends: tuple[asyncio.Future[Any], ...] = (performance, live.trouble)
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if live.committing or not live.trouble.done():
        await asyncio.wait({performance})
    if problem := _problem(live, performance, stage.store.root):
        if live.committing and await stage.journal.has_point(live.record.id):
            log.error("session %s: after its commit: %s", live.record.id, problem)
            await _show_committed(live, stage)
        else:
            await _abort(live, stage, performance, watch.explain(problem))
    await stage.journal.settle()


async def _perform(live: LiveSession, stage: Stage, watch: Watch) -> None:
    with _reporting(live):
        await live.barrier(ParticipantState.JOINED, look=watch.look)
        faultpoints.reached("session.joined")
    vms = {vm.vm for reports in live.reports.values() for vm in reports}
    async with stage.turns.session(vms):
        await _take_part(live, stage, watch)


async def _take_part(live: LiveSession, stage: Stage, watch: Watch) -> None:
    """From the plan to the commit; nobody else changes layers of the session's VMs meanwhile."""
    with _reporting(live):
        await _plan(live, stage, watch)
        faultpoints.reached("session.planned")
    layers = prepare.new_layers(stage.store, live.record.id, live.record.disks)
    async with open_intake(
        layers,
        session=live.record.id,
        ports=stage.ports,
        listen=stage.config.nbd_listen,
        timeout_s=stage.config.storage_daemon_timeout_s,
        run=stage.store.run,
    ) as intake:
        live.daemon = intake.daemon
        faultpoints.reached("session.intake-open")
        with _reporting(live):
            manifests = await _receive(live, stage, watch, intake)
    live.daemon = None
    faultpoints.reached("session.sealed")
    await _commit(live, stage, manifests)


async def _receive(live: LiveSession, stage: Stage, watch: Watch, intake: Intake) -> list[Manifest]:
    """From the plan's release to layers that are sealed; their manifests."""
    guard = asyncio.create_task(_guard(live, intake))
    try:
        await _release(live, intake)
        with stage.journal.quiet():
            await _pass(live, watch, CUT)
        intake.daemon.reached("transferring")
        await _pass(live, watch, TRANSFER)
        intake.daemon.reached("transferred")
    finally:
        guard.cancel()
    membership.require(live.record)
    receipt = receipt_of(live.record)
    if not receipt.transfers:
        raise NobodyLeft(live.record.id, "every VM was left out")
    return await seal(receipt, intake, stage.store, flush_timeout_s=stage.config.flush_timeout_s, now=now())


@contextmanager
def _reporting(live: LiveSession) -> Iterator[None]:
    """Make a problem known before it is cleared up, which participants need not wait for."""
    try:
        yield
    except ReceiverError as error:
        live.interrupt(error)
        raise


async def _plan(live: LiveSession, stage: Stage, watch: Watch) -> None:
    """Decide the levels, and whether there is room."""
    reports = {each.host: live.reports[each.host] for each in live.present}
    ancestors = await asyncio.to_thread(prepare.find_ancestors, stage.catalog, stage.store, reports)
    expected = await asyncio.to_thread(prepare.find_members, stage.catalog, live.record.group)
    transfers = prepare.plan_session(reports, ancestors)
    needs = prepare.needed_bytes(transfers, reports)
    homes = await asyncio.to_thread(volumes.homes_of, stage.store, stage.config.volumes, needs)
    watch.require_room(room.by_volume(needs, homes))
    async with live.changed:
        # A host may have failed while the catalog was read.
        present = {each.host for each in live.present}
        transitions.planned(live.record, [each for each in transfers if each.host in present], now=now())
        coming = {each.vm for each in transfers}
        transitions.missing(live.record, membership.absent(live.record, expected, coming), now=now())
        live.announce(entered=True)
        membership.require(live.record)
    disks = live.record.disks
    await complete_in_thread(prepare.make_directories, stage.catalog, stage.store, disks, homes)


async def _release(live: LiveSession, intake: Intake) -> None:
    """Hand every host its plan."""
    for host in {transfer.host for transfer in live.record.disks}:
        live.plans[host] = prepare.plan_for(
            host,
            live.record,
            stop_budget_s=live.stop_budget_s,
            transport=intake.transport,
            exports=intake.names,
        )
    joined = ", ".join(each.host for each in live.present)
    await live.enter(SessionState.PREPARING, f"joined: {joined}")
    faultpoints.reached("session.preparing")


async def _pass(live: LiveSession, watch: Watch, barriers: Barriers) -> None:
    for barrier, state in barriers:
        await live.barrier(barrier, look=watch.look)
        await live.enter(state)
        faultpoints.reached(f"session.{state}")


async def _guard(live: LiveSession, intake: Intake) -> None:
    """A session does not go on with a storage daemon that has died, nor with a new one."""
    live.interrupt(await intake.daemon.wait_dead())


async def _commit(live: LiveSession, stage: Stage, manifests: list[Manifest]) -> None:
    """Write the commit record; nobody sees the session committed before that is durable."""
    async with live.changed:
        moment = now()
        committed = live.record.snapshot()
        transitions.move_transfers(committed.disks, committed, TransferState.SEALED, now=moment)
        transitions.enter(committed, SessionState.COMMITTED, now=moment)
        live.committing = committed
        await stage.journal.commit(committed, point_of(manifests, stage.store, committed_at=moment))
    faultpoints.reached("session.commit-written")
    await _show_committed(live, stage)


async def _show_committed(live: LiveSession, stage: Stage) -> None:
    """Tell everyone that the commit record is written."""
    assert live.committing
    async with live.changed:
        live.record = live.committing
        live.announce(entered=True)
    faultpoints.reached("session.committed")
    log.info("session %s of group %s is committed", live.record.id, live.record.group)
    left_out = [each for each in live.record.disks if each.state is TransferState.FAILED]
    await _remove_files(live.record.id, left_out, stage.store)
    faultpoints.reached("session.cleared")


def _problem(live: LiveSession, performance: asyncio.Task[None], store: Path) -> ReceiverError | None:
    """Why the session cannot be committed, if it cannot."""
    if not performance.done():
        return live.trouble.result()
    error = performance.exception()
    if error is None or isinstance(error, ReceiverError):
        return error
    log.error("session %s: the coordinator failed", live.record.id, exc_info=error)
    return (
        StoreFailed(str(store), error.strerror or str(error))
        if isinstance(error, OSError)
        else ReceiverError()
    )


async def _abort(
    live: LiveSession, stage: Stage, performance: asyncio.Task[None], problem: ReceiverError
) -> None:
    """Release the participants first, then clear up."""
    performance.cancel()
    await live.enter(SessionState.ABORTED, str(problem))
    faultpoints.reached("session.abort-entered")
    log.warning("session %s of group %s is aborted: %s", live.record.id, live.record.group, problem)
    await asyncio.wait({performance})
    faultpoints.reached("session.performance-ended")
    await _remove_files(live.record.id, live.record.disks, stage.store)
    faultpoints.reached("session.files-removed")


async def _remove_files(point: str, transfers: Iterable[Transfer], store: Store) -> None:
    paths = [path for each in transfers for path in store.disk(each.vm, each.disk).files_of(point)]
    try:
        await complete_in_thread(durable.remove_files, paths)
    except OSError:
        log.exception("session %s: files are left until the next start", point)
