# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torture changes on a site between two sessions, each kind by its name in ``BEFORE``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from machine import MIB, Image, Machine, wait_for

from faults import store
from faults.kinds import Blow

NAMES = ("a", "b", "c", "d")
OVERLAY = "overlay"


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


def snapshot_and_merge(blow: Blow) -> None:
    """Somebody takes an external snapshot of a disk, and merges it back after a while."""
    machine = blow.machine()
    image = blow.random.choice(machine.images)
    blow.doubt(machine, image.name)
    overlay = machine.directory / f"{machine.name}-{image.name}.overlay"
    machine.command(
        "blockdev-snapshot-sync",
        node_name=f"disk-{image.name}",
        snapshot_file=str(overlay),
        snapshot_node_name=OVERLAY,
    )
    blow.site.writing.wait_rounds()
    machine.command("block-commit", job_id=OVERLAY, device=OVERLAY)
    wait_for(lambda: _states(machine) == ["ready"], f"the merge of {overlay}")
    machine.command("job-complete", id=OVERLAY)
    wait_for(lambda: not _states(machine), f"the end of the merge of {overlay}")
    overlay.unlink()


def abandon_session(blow: Blow) -> None:
    """Somebody opened a session of the group, and nobody ever joins it."""
    body = {"group": blow.site.receiver.group, "hosts": list(blow.site.hosts), "join_timeout_s": 2.0}
    with contextlib.suppress(OSError, ValueError):
        blow.site.receiver.call("POST", "/sessions", body, timeout=5.0)


def flip_bit(blow: Blow) -> str | None:
    """A bit of a layer is wrong: no restore may use it. It is put right again."""
    return _restored_from_damage(blow, ".qcow2", may_be_harmless=False)


def flip_manifest_bit(blow: Blow) -> str | None:
    """A bit of a manifest is wrong: a restore refuses it or does not need it. It is put right again."""
    return _restored_from_damage(blow, ".json", may_be_harmless=True)


def _restored_from_damage(blow: Blow, suffix: str, *, may_be_harmless: bool) -> str | None:
    """What is wrong with a restore from the newest point, one of whose files has a wrong bit."""
    newest = list(store.points(blow.site.receiver).values())[-1]
    vm, disk = blow.random.choice(store.disks(newest))
    path = (blow.site.receiver.store / disk["layer"]).with_suffix(suffix)
    at = blow.random.randrange(path.stat().st_size)
    with tempfile.TemporaryDirectory(dir=blow.site.directory) as directory, _flipped(path, at):
        restored = blow.site.receiver.restore(newest["id"], vm, Path(directory))
        if restored.returncode == 0 and not (may_be_harmless and _all_true(blow, newest, Path(directory))):
            return f"I2: point {newest['id']}: a flipped bit at {at} of {path.name} of {vm} was not noticed"
    return None


def _all_true(blow: Blow, point: dict[str, Any], directory: Path) -> bool:
    """Whether the restored disks are what they were at the cut."""
    files = list(directory.rglob("vd-*"))
    truths = [blow.site.truth(point["id"], file.parent.name, file.stem.removeprefix("vd-")) for file in files]
    return bool(files) and not any(map(store.same_content, files, truths))


# each may find a violation
BEFORE: Mapping[str, Callable[[Blow], str | None]] = {
    kind.__name__: kind
    for kind in (
        restart_vm,
        grow_disk,
        add_disk,
        remove_disk,
        snapshot_and_merge,
        abandon_session,
        flip_bit,
        flip_manifest_bit,
    )
}


def _states(machine: Machine) -> list[str]:
    return [job["status"] for job in machine.command("query-jobs")]


def _names(machine: Machine) -> list[str]:
    return [image.name for image in machine.images]


@contextlib.contextmanager
def _flipped(path: Path, at: int) -> Iterator[None]:
    """A file with a wrong bit while the block runs."""
    _flip(path, at)
    try:
        yield
    finally:
        _flip(path, at)


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
    blow.forget_agent(machine)


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
