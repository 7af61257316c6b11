# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors about what the receiver does: programs, layers, room."""

from __future__ import annotations

from dataclasses import dataclass

from livebackup_receiver.errors.base import ReceiverError


@dataclass(eq=False)
class StoreFull(ReceiverError):
    """Less room than the session needs; sizes in bytes."""

    store: str
    need_bytes: int
    free_bytes: int
    code = "store-full"
    http_status = 507
    exit_code = 8
    cause_template = "the store {e.store} needs {e.need_bytes:,} bytes free and has {e.free_bytes:,}"
    remedy_template = "free space in it or make it larger, then run the backup again"


@dataclass(eq=False)
class StoreFailed(ReceiverError):
    """The file system of the store refused a write or a read."""

    store: str
    problem: str
    code = "store-failed"
    exit_code = 8
    cause_template = "the store {e.store} cannot be used: {e.problem}"
    remedy_template = "check its file system and permissions"


@dataclass(eq=False)
class TargetFull(ReceiverError):
    """Less room than a restore needs; sizes in bytes."""

    directory: str
    need_bytes: int
    free_bytes: int
    code = "target-full"
    http_status = 507
    exit_code = 8
    cause_template = (
        "the restore needs {e.need_bytes:,} bytes in {e.directory}, which has {e.free_bytes:,} free"
    )
    remedy_template = "free space there, or restore into another directory"


@dataclass(eq=False)
class TargetFaulty(ReceiverError):
    """The store is right, and what was written from it is not."""

    path: str
    where: str
    code = "target-faulty"
    exit_code = 8
    cause_template = "{e.path} does not hold what was written to it, {e.where}"
    remedy_template = "check the disk it lies on, or restore onto another one"


@dataclass(eq=False)
class CommandFailed(ReceiverError):
    """A child process ended with an error; ``stderr`` is its last output."""

    command: str
    returncode: int
    stderr: str
    code = "command-failed"
    exit_code = 9
    cause_template = "`{e.command}` ended with {e.returncode}: {e.last_words}"
    remedy_template = "run it by hand to see more"

    @property
    def last_words(self) -> str:
        """The last line of stderr, where programs say what is wrong."""
        return self.stderr.strip().rpartition("\n")[2] or "no message"


@dataclass(eq=False)
class CommandTimedOut(CommandFailed):
    timeout_s: float
    code = "command-timed-out"
    cause_template = "`{e.command}` was killed after {e.timeout_s:g} seconds"
    remedy_template = "look for a hung disk or process"


@dataclass(eq=False)
class StorageDaemonFailed(ReceiverError):
    """The storage daemon of a session did not do what it was asked."""

    daemon: str
    action: str
    problem: str
    code = "storage-daemon-failed"
    exit_code = 9
    cause_template = "the storage daemon of {e.daemon} could not {e.action}: {e.problem}"
    remedy_template = "run the backup again, and look at the receiver's log if it fails again"


@dataclass(eq=False)
class NoPortFree(StorageDaemonFailed):
    code = "no-port-free"
    http_status = 503
    remedy_template = "wait until a session or export has ended, or widen nbd_ports"


@dataclass(eq=False)
class LayerDamaged(ReceiverError):
    path: str
    problem: str
    code = "layer-damaged"
    exit_code = 10
    cause_template = "the layer {e.path} is damaged: {e.problem}"
    remedy_template = "check the disk it lies on, then run the backup again"


@dataclass(eq=False)
class LayerUnsupported(ReceiverError):
    """A layer is sound, perhaps, but of a kind that cannot be merged or read here."""

    path: str
    problem: str
    code = "layer-unsupported"
    exit_code = 10
    cause_template = "the layer {e.path} is of a kind that is not understood here: {e.problem}"
    remedy_template = "qemu-img reads it; nothing was changed"


@dataclass(eq=False)
class KeyMissing(ReceiverError):
    """A layer is encrypted, and nothing that was given opens it."""

    path: str
    code = "key-missing"
    exit_code = 10
    cause_template = "the layer {e.path} is encrypted, and none of the keys that were given opens it"
    remedy_template = "name the file of its key in encryption_keys, and start the receiver again"


@dataclass(eq=False)
class ManifestInvalid(ReceiverError):
    path: str
    problem: str
    code = "manifest-invalid"
    exit_code = 10
    cause_template = "the manifest {e.path} cannot be read: {e.problem}"
    remedy_template = "restore it from a copy of the store, or remove it together with its layer"


@dataclass(eq=False)
class DigestsInvalid(ReceiverError):
    path: str
    problem: str
    code = "digests-invalid"
    exit_code = 10
    cause_template = "the digest table {e.path} cannot be used: {e.problem}"
    remedy_template = "check the disk it lies on, then run the backup again, which copies the disk in full"


@dataclass(eq=False)
class PointDamaged(ReceiverError):
    """A scrub has found damage in what a restore would read; ``whole`` are points without."""

    point: str
    vm: str
    disk: str
    where: str
    whole: str
    code = "point-damaged"
    http_status = 409
    exit_code = 10
    cause_template = "disk {e.disk} of VM {e.vm} is damaged at point {e.point}, {e.where}"
    remedy_template = (
        "take {e.whole}, or what is left of this one with `livebackup-receiver restore --accept-damage`"
    )


@dataclass(eq=False)
class PointLost(PointDamaged):
    """Nothing of a disk can be read at this point."""

    code = "point-lost"
    remedy_template = "take {e.whole}"
