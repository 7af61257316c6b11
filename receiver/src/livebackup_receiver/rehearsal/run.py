# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsal from outside: serves the point's disks, starts the enclosure, and listens to what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from livebackup_receiver import subprocesses
from livebackup_receiver.catalog import points
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.config import Config
from livebackup_receiver.errors import (
    DigestsInvalid,
    DiskUnknown,
    LayerDamaged,
    LayerUnsupported,
    PointDamaged,
    ReceiverError,
)
from livebackup_receiver.errors.unknown import among
from livebackup_receiver.model import Outcome, Point, PointVm
from livebackup_receiver.recovery.order import needed, stages
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.rehearsal import enclosure
from livebackup_receiver.rehearsal.kept import read_log
from livebackup_receiver.rehearsal.means import needs_of, what_is_missing
from livebackup_receiver.rehearsal.overlays import bound_of, create_overlay
from livebackup_receiver.rehearsal.result import MemberResult, judge, printable
from livebackup_receiver.rehearsal.script import (
    SCRIPT,
    SOCKET,
    DiskPart,
    Line,
    Script,
    console_of,
    screenshot_of,
)
from livebackup_receiver.rehearsal.workplace import workplace
from livebackup_receiver.restore import chain_layers, check_layers, layers_held, on_newest_chain
from livebackup_receiver.scrub.known import require_sound
from livebackup_receiver.storage_daemon.local import LocalExports, local_exports
from livebackup_receiver.store import room
from livebackup_receiver.store.paths import Store

# What starting and ending may take on top of the times of the plan.
SLACK_S = 300.0
LONGEST_LINE = 1 << 20
POINTS_FAULT = (PointDamaged, LayerDamaged, LayerUnsupported, DiskUnknown, DigestsInvalid)
"""Errors that a restore of the point would meet as well; all others are the receiver's own."""

OnLine = Callable[[str], None]
Chains = Mapping[tuple[str, str], Sequence[Path]]
"""The layers of each (VM, disk), top first."""


@dataclass(frozen=True)
class Order:
    """What is to be rehearsed; ``vms`` are those of the point and of the plan that are wanted."""

    id: str
    point: Point
    plan: RecoveryPlan
    vms: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether that is all of both."""
        return self.vms == chosen(self.point, self.plan)

    @property
    def present(self) -> list[PointVm]:
        """Those of them that the point holds."""
        return [each for each in self.point.vms if each.vm in self.vms]

    @property
    def absent(self) -> list[str]:
        return sorted(set(self.vms) - {each.vm for each in self.present})


@dataclass
class Found:
    """What was found out; ``logs`` are consoles and pictures by the names of their files."""

    outcome: Outcome
    reason: str | None
    accelerator: str | None = None
    members: list[MemberResult] = field(default_factory=list)
    logs: dict[str, bytes] = field(default_factory=dict)


class _Stopped(Exception):
    """The enclosure could not go on; str() says why."""


def chosen(point: Point, plan: RecoveryPlan, vms: Sequence[str] = ()) -> tuple[str, ...]:
    """What is brought up: some VMs with all that they come after, or all of the point and of the plan."""
    everybody = {each.vm for each in point.vms} | {each.vm for each in plan.members}
    return tuple(sorted(needed(plan, vms) if vms else everybody))


async def perform(order: Order, config: Config, catalog: Catalog, on_line: OnLine) -> Found:
    """Bring up what is ordered, and tell what came of it; whatever goes wrong is one of the three outcomes.

    :param on_line: told how far it is, in words
    """
    try:
        return await _perform(order, config, catalog, on_line)
    except POINTS_FAULT as error:
        return Found(Outcome.FAILED, error.cause)
    except ReceiverError as error:
        return Found(Outcome.COULD_NOT_RUN, f"{error.cause}; {error.remedy}")
    except OSError as error:
        return Found(Outcome.COULD_NOT_RUN, f"{error.filename or 'the store'}: {error.strerror or error}")


async def _perform(order: Order, config: Config, catalog: Catalog, on_line: OnLine) -> Found:
    needs = needs_of(order.plan, [each.vm for each in order.present], config.rehearsal_files)
    if (missing := await what_is_missing(needs)) is not None:
        return Found(Outcome.COULD_NOT_RUN, missing)
    store = Store(config.store)
    for each in order.present:
        await asyncio.to_thread(
            require_sound, catalog, store, order.point.id, each.vm, [disk.disk for disk in each.disks]
        )

    async def act(chains: Chains) -> Found:
        return await _on_chains(order, config, catalog, chains, on_line)

    return await on_newest_chain(lambda: _chains(order, catalog, store), act)


def _chains(order: Order, catalog: Catalog, store: Store) -> Chains:
    with catalog.read() as db:
        return {
            (vm.vm, disk.disk): chain_layers(
                points.disk_chain(db, point=order.point.id, vm=vm.vm, disk=disk.disk), store.root
            )
            for vm in order.present
            for disk in vm.disks
        }


async def _on_chains(
    order: Order, config: Config, catalog: Catalog, chains: Chains, on_line: OnLine
) -> Found:
    store = Store(config.store)
    with layers_held(layer for chain in chains.values() for layer in chain):
        # It may have been dropped before its layers could be held.
        with catalog.read() as db:
            points.load_point(db, order.point.id)
        for chain in chains.values():
            check_layers(chain)
        with workplace(store, order.id) as place:
            shared = place / "shared"
            shared.mkdir(mode=0o700)
            async with _exports(order, config, chains, place) as exports:
                script = await _prepare(order, config, exports, shared)
                if script is None:
                    return Found(Outcome.COULD_NOT_RUN, _no_room(config))
                return await _play(order, script, config, exports, shared, on_line)


@asynccontextmanager
async def _exports(order: Order, config: Config, chains: Chains, place: Path) -> AsyncIterator[LocalExports]:
    async with local_exports(
        f"rehearsal {order.id}",
        {f"{vm}/{disk}": chain[0] for (vm, disk), chain in chains.items()},
        directory=place / "shared",
        name=SOCKET,
        run=place,
        timeout_s=config.storage_daemon_timeout_s,
    ) as exports:
        yield exports


async def _prepare(order: Order, config: Config, exports: LocalExports, shared: Path) -> Script | None:
    """The script, and the images that it names; None if there is no room for them."""
    free, disks = room.free_bytes(shared), [disk for vm in order.present for disk in vm.disks]
    bound = bound_of(free, config.min_free_bytes, len(disks), config.rehearsal_overlay_bytes)
    if bound is None:
        return None
    cast: dict[str, list[DiskPart]] = {}
    for vm in order.present:
        sizes = {disk.disk: disk.virtual_size for disk in vm.disks}
        cast[vm.vm] = []
        for number, disk in enumerate(boot_order(order.plan, vm)):
            part = DiskPart(
                disk=disk, export=exports.names[f"{vm.vm}/{disk}"], overlay=f"{vm.vm}.{number}.qcow2"
            )
            await create_overlay(shared / part.overlay, sizes[disk])
            cast[vm.vm].append(part)
    files = config.rehearsal_files
    script = Script(
        plan=order.plan,
        cast=cast,
        absent=order.absent,
        accelerators=list(config.rehearsal_accelerators),
        overlay_bytes=bound,
        files=str(files) if files else None,
    )
    (shared / SCRIPT).write_text(script.model_dump_json(), encoding="utf-8")
    return script


def boot_order(plan: RecoveryPlan, vm: PointVm) -> list[str]:
    """Names of disks: first those that the plan names, then the others by name; pure.

    :raise DiskUnknown: the point does not hold one of them
    """
    named, held = plan.member(vm.vm).boot.disks or [], sorted(disk.disk for disk in vm.disks)
    for disk in named:
        if disk not in held:
            raise DiskUnknown(vm.vm, disk, "the point", among(held))
    return [*named, *(disk for disk in held if disk not in named)]


def _no_room(config: Config) -> str:
    return f"the store {config.store} has no room for what the guests write; free space in it"


async def _play(
    order: Order, script: Script, config: Config, exports: LocalExports, shared: Path, on_line: OnLine
) -> Found:
    """Run the enclosure to its end."""
    found, stderr = Found(Outcome.PASSED, None), shared.parent / "enclosure.stderr"
    argv = enclosure.enclosed(enclosure.perform_command(), shared, config.rehearsal_files)
    with stderr.open("wb") as messages:
        process = await subprocesses.spawn(argv, stderr=messages, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(longest_s(script)):
            await _listen(process, found, on_line)
    except TimeoutError:
        return Found(Outcome.COULD_NOT_RUN, f"it was not done after {longest_s(script):g} seconds")
    except _Stopped as stopped:
        words = str(stopped) or printable(stderr.read_text(errors="replace").strip().rpartition("\n")[2])
        return Found(Outcome.COULD_NOT_RUN, words or "the enclosure was killed")
    finally:
        await subprocesses.kill(process)
    if exports.daemon.process.returncode is not None:
        return Found(Outcome.COULD_NOT_RUN, (await exports.daemon.wait_dead()).cause)
    found.outcome, found.reason = judge(found.members)
    found.logs = _collect(found.members, shared)
    return found


def longest_s(script: Script) -> float:
    """How long a performance may take: in each stage as long as its slowest VM; pure."""
    total = SLACK_S
    for stage in stages(script.plan, script.cast):
        members = [script.plan.member(vm) for vm in stage]
        total += max(each.ready.timeout_s + sum(check.timeout_s for check in each.checks) for each in members)
    return total


async def _listen(process: asyncio.subprocess.Process, found: Found, on_line: OnLine) -> None:
    """Note what the enclosure says until it has ended.

    :raise _Stopped: it ended before it was done, or says what cannot be understood
    """
    assert process.stdout is not None
    while True:
        try:
            line = Line.model_validate_json(await process.stdout.readuntil(b"\n"))
        except asyncio.IncompleteReadError:
            raise _Stopped from None
        except (asyncio.LimitOverrunError, ValidationError):
            raise _Stopped("what the enclosure says cannot be understood") from None
        if line.said:
            on_line(printable(line.said))
        if line.accelerator:
            found.accelerator = line.accelerator
        if line.member:
            found.members.append(line.member)
        if line.problem:
            raise _Stopped(line.problem)
        if line.ended:
            return


def _collect(members: Sequence[MemberResult], shared: Path) -> dict[str, bytes]:
    """The logs that are there; a result says of none that is not."""
    logs: dict[str, bytes] = {}
    for each in members:
        for name, kind in ((console_of(each.vm), "console"), (screenshot_of(each.vm), "screenshot")):
            content = read_log(shared / name) if getattr(each, kind) else None
            setattr(each, kind, content is not None)
            if content is not None:
                logs[name] = content
    return logs
