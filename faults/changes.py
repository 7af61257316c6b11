# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torture changes on a site between two sessions, each kind by its name in ``BEFORE``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from machine import MIB, Image, Machine

from faults import store
from faults.kinds import Blow

NAMES = ("a", "b", "c", "d")


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


# each may find a violation
BEFORE: Mapping[str, Callable[[Blow], str | None]] = {
    kind.__name__: kind for kind in (restart_vm, grow_disk, add_disk, remove_disk, abandon_session, flip_bit)
}


def _names(machine: Machine) -> list[str]:
    return [image.name for image in machine.images]


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


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
