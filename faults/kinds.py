# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torture does to a site in the middle of a session, each kind by its name in ``DURING``.

A kind returns how to undo it, if that is needed. One that meets nothing to strike at does nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from machine import MIB, Machine

from faults import isolation
from faults.participants import Started
from faults.site import Run, Site, address

Undo = Callable[[], None]


@dataclass
class Blow:
    """The site at the moment of a blow; ``random`` decides what is hit."""

    site: Site
    random: random.Random
    run: Run
    started: Mapping[str, Started] = field(default_factory=dict)
    # disks of which nobody can say any more whether their bitmaps are true
    doubtful: set[tuple[str, str]] = field(default_factory=set)
    # VMs whose QEMU does not answer
    hanging: set[str] = field(default_factory=set)

    def host(self) -> str:
        """One of the hosts."""
        return self.random.choice(sorted(self.site.hosts))

    def machine(self) -> Machine:
        """One of the VMs, hung or not."""
        return self.random.choice(sorted(self.site.machines, key=lambda machine: machine.name))

    def forget_agent(self, machine: Machine) -> None:
        """The guest has gone, frozen or not, and the new one has no agent."""
        self.site.agents[machine.name].frozen = False

    def doubt(self, machine: Machine, *names: str) -> None:
        """The bitmaps of these disks, or of all of a VM, may be gone."""
        every = [image.name for image in machine.images]
        self.doubtful |= {(machine.name, f"vd-{name}") for name in names or every}


def kill_participant(blow: Blow) -> None:
    _signal(blow, signal.SIGKILL)


def stop_participant(blow: Blow) -> None:
    _signal(blow, signal.SIGSTOP)


def kill_receiver(blow: Blow) -> None:
    process = blow.site.receiver.process
    if process is not None and process.poll() is None:
        process.kill()


def stop_receiver(blow: Blow) -> None:
    process = blow.site.receiver.process
    if process is not None and process.poll() is None:
        process.send_signal(signal.SIGSTOP)


def kill_storage_daemon(blow: Blow) -> None:
    for pid in blow.site.receiver.daemons():
        _send(pid, signal.SIGKILL)


def stop_storage_daemon(blow: Blow) -> None:
    for pid in blow.site.receiver.daemons():
        _send(pid, signal.SIGSTOP)


def kill_vm(blow: Blow) -> None:
    """A power cut of one VM, which is started again at once."""
    machine = blow.machine()
    if blow.hanging:
        # the guests write in turn, and wait for the hung one
        return
    blow.doubt(machine)
    with blow.site.writing.resting():
        machine.kill()
        machine.start()
    blow.forget_agent(machine)


def stop_vm(blow: Blow) -> Undo | None:
    """A QEMU hangs; what its guest waits for meanwhile is not held against anybody."""
    machine = blow.machine()
    process = machine.process
    if process is None or blow.hanging:
        return None
    process.send_signal(signal.SIGSTOP)
    blow.hanging.add(machine.name)

    def go_on() -> None:
        process.send_signal(signal.SIGCONT)
        blow.hanging.clear()
        with blow.site.writing.resting():
            blow.site.writing.forget_delays()

    return go_on


def erase_areas(blow: Blow) -> None:
    """A guest erases clusters of a disk that is being transferred; earlier, it might break the truth."""
    if blow.run.states[-1:] != ["transferring"]:
        return
    machine = blow.machine()
    if machine.name in blow.hanging:
        return
    image, how = blow.random.choice(machine.images), blow.random.choice(ERASING)
    for offset in range(MIB, image.bytes - STRIDE, STRIDE):
        if blow.random.random() < 0.5:
            machine.erase(image.name, how, offset=offset, count=65536)


def reset_vm(blow: Blow) -> None:
    """The guest reboots."""
    machine = blow.machine()
    if machine.name not in blow.hanging:
        machine.command("system_reset")


def hang_agent(blow: Blow) -> Undo:
    """A guest agent hangs when it is to freeze, and freezes when nobody waits for it any more."""
    agent = blow.site.agents[blow.machine().name]
    agent.hangs_at = FREEZE

    def wake() -> None:
        if agent.hangs:
            agent.wake()
        agent.hangs_at = None

    return wake


def thaw_late(blow: Blow) -> Undo:
    """A guest agent does not thaw for a while."""
    agent = blow.site.agents[blow.machine().name]
    agent.deaf = (THAW,)

    def listen() -> None:
        agent.deaf = ()

    return listen


def cut_network(blow: Blow) -> Undo:
    isolation.cut(address(blow.host()))
    return isolation.heal_network


def half_open_network(blow: Blow) -> Undo:
    isolation.half_open(address(blow.host()))
    return isolation.heal_network


def lossy_network(blow: Blow) -> Undo:
    isolation.lose(address(blow.host()))
    return isolation.heal_network


def fill_store(blow: Blow) -> Undo:
    filler = isolation.fill(blow.site.receiver.store)
    return lambda: filler.unlink(missing_ok=True)


def fill_scratch(blow: Blow) -> Undo:
    filler = isolation.fill(blow.site.scratch)
    return lambda: filler.unlink(missing_ok=True)


def abort_session(blow: Blow) -> None:
    """An operator aborts it."""
    if blow.run.session:
        with contextlib.suppress(OSError, ValueError):
            blow.site.receiver.call(
                "POST", f"/sessions/{blow.run.session}/abort", {"reason": "torture"}, timeout=5.0
            )


def join_twice(blow: Blow) -> None:
    """The participant of a host is started a second time."""
    if blow.run.session:
        blow.site.others.append(blow.site.start(blow.host(), blow.run.session))


def second_session(blow: Blow) -> None:
    """Another group's session wants the same VMs; a host that never comes keeps it from making points."""
    host = blow.host()
    body = {"group": "others", "hosts": [host, "nowhere"], "join_timeout_s": 2.0}
    with contextlib.suppress(OSError, ValueError):
        opened = blow.site.receiver.call("POST", "/sessions", body, timeout=5.0)
        if "id" in opened:
            blow.site.sessions.append(opened["id"])
            blow.site.others.append(blow.site.start(host, opened["id"]))


FREEZE, THAW = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"
ERASING = ("write -z", "write -z -u", "discard")
STRIDE = 128 << 10
DURING: Mapping[str, Callable[[Blow], Undo | None]] = {
    kind.__name__: kind
    for kind in (
        kill_participant,
        stop_participant,
        kill_receiver,
        stop_receiver,
        kill_storage_daemon,
        stop_storage_daemon,
        kill_vm,
        stop_vm,
        reset_vm,
        erase_areas,
        hang_agent,
        thaw_late,
        cut_network,
        half_open_network,
        lossy_network,
        fill_store,
        fill_scratch,
        abort_session,
        join_twice,
        second_session,
    )
}


def _signal(blow: Blow, number: signal.Signals) -> None:
    if blow.started:
        blow.started[blow.random.choice(sorted(blow.started))].signal(number)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
