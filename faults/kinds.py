# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torture does to a site, each kind by its name in one of two tables.

``BEFORE`` changes VMs between two sessions, ``DURING`` strikes in the middle of one. A kind returns how to
undo it, if that is needed. One that meets nothing to strike at does nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from machine import MIB, Image, Machine

from faults import isolation, store
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

    def host(self) -> str:
        """One of the hosts."""
        return self.random.choice(sorted(self.site.hosts))

    def machine(self) -> Machine:
        """One of the VMs."""
        return self.random.choice(sorted(self.site.machines, key=lambda machine: machine.name))

    def doubt(self, machine: Machine, *names: str) -> None:
        """The bitmaps of these disks, or of all of a VM, may be gone."""
        self.doubtful |= {(machine.name, f"vd-{name}") for name in names or _names(machine)}


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


def kill_vm(blow: Blow) -> Undo:
    """A power cut of one VM, which is started again at once."""
    machine = blow.machine()
    blow.doubt(machine)
    with blow.site.writing.resting():
        machine.kill()
        machine.start()
    return lambda: None


def reset_vm(blow: Blow) -> None:
    """The guest reboots."""
    blow.machine().command("system_reset")


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
    """Another group's session wants the same VMs."""
    host = blow.host()
    body = {"group": "others", "hosts": [host], "join_timeout_s": 2.0}
    with contextlib.suppress(OSError, ValueError):
        opened = blow.site.receiver.call("POST", "/sessions", body, timeout=5.0)
        if "id" in opened:
            blow.site.sessions.append(opened["id"])
            blow.site.others.append(blow.site.start(host, opened["id"]))


def restart_vm(blow: Blow) -> None:
    """A clean stop and start; bitmaps of raw disks do not survive it."""
    machine = blow.machine()
    blow.doubt(machine, *(image.name for image in machine.images if image.format == "raw"))
    _restart(blow, machine)


def grow_disk(blow: Blow) -> None:
    """A disk is made larger while its VM runs."""
    machine = blow.machine()
    image = blow.random.choice(machine.images)
    size = image.bytes + blow.random.choice((512, 65536, MIB))
    machine.command("block_resize", node_name=f"disk-{image.name}", size=size)
    _replace(machine, image, Image(image.name, image.format, size))


def add_disk(blow: Blow) -> None:
    """A VM gets another disk."""
    machine = blow.machine()
    if len(machine.images) == len(NAMES):
        return
    name = next(name for name in NAMES if name not in _names(machine))
    image = Image(name, blow.random.choice(("qcow2", "raw")), 2 * MIB)
    blow.doubt(machine, name, *(each.name for each in machine.images if each.format == "raw"))
    _restart(blow, machine, (*machine.images, image))


def remove_disk(blow: Blow) -> None:
    """A VM loses a disk."""
    machine = blow.machine()
    if len(machine.images) == 1:
        return
    gone = blow.random.choice(machine.images)
    blow.doubt(machine, gone.name, *(each.name for each in machine.images if each.format == "raw"))
    _restart(blow, machine, tuple(image for image in machine.images if image != gone))


def abandon_session(blow: Blow) -> None:
    """Somebody opened a session of the group, and nobody ever joins it."""
    body = {"group": blow.site.receiver.group, "hosts": list(blow.site.hosts), "join_timeout_s": 2.0}
    with contextlib.suppress(OSError, ValueError):
        blow.site.receiver.call("POST", "/sessions", body, timeout=5.0)


def flip_bit(blow: Blow) -> str | None:
    """A bit of a layer is wrong: no restore may use it. It is put right again."""
    newest = list(store.points(blow.site.receiver).values())[-1]
    vm, disk = blow.random.choice(store.disks(newest))
    layer = blow.site.receiver.store / disk["layer"]
    at = blow.random.randrange(layer.stat().st_size)
    _flip(layer, at)
    try:
        restored = blow.site.receiver.restore(newest["id"], vm, blow.site.directory / "restored")
    finally:
        _flip(layer, at)
    if restored.returncode == 0:
        return f"I2: point {newest['id']}: a flipped bit at {at} of {vm}/{disk['disk']} was not noticed"
    return None


NAMES = ("a", "b", "c", "d")
# each may find a violation
BEFORE: Mapping[str, Callable[[Blow], str | None]] = {
    kind.__name__: kind for kind in (restart_vm, grow_disk, add_disk, remove_disk, abandon_session, flip_bit)
}
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
        reset_vm,
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


def _names(machine: Machine) -> list[str]:
    return [image.name for image in machine.images]


def _signal(blow: Blow, number: signal.Signals) -> None:
    if blow.started:
        blow.started[blow.random.choice(sorted(blow.started))].signal(number)


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _restart(blow: Blow, machine: Machine, images: tuple[Image, ...] | None = None) -> None:
    with blow.site.writing.resting():
        machine.stop()
        if images is not None:
            _change_disks(machine, images)
        machine.start()


def _change_disks(machine: Machine, images: tuple[Image, ...]) -> None:
    old = set(machine.images)
    for image in old - set(images):
        machine.path(image.name).unlink()
    machine.images = images
    for image in set(images) - old:
        machine.create_image(image)
    machine.write_boot_disk()


def _replace(machine: Machine, old: Image, new: Image) -> None:
    machine.images = tuple(new if image == old else image for image in machine.images)
