# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found in the disks of a VM, as the API and the command line say it. Pure.

It comes from a hostile place, so everything is checked: names are text as ``names`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from livebackup_receiver.browse.framing import raw
from livebackup_receiver.browse.names import shown
from livebackup_receiver.model import Model, Moment

MODES = 0o7777
OWN_TREE = "guest"
"""The name of what the guest itself sees: its file systems, mounted where it mounts them."""


class FileKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    DEVICE = "device"
    FIFO = "fifo"
    SOCKET = "socket"
    UNKNOWN = "unknown"


class FileSystem(Model):
    """A file system of a VM's disks; sizes in bytes.

    ``name`` is what a path begins with; ``disk`` is null for one that lies on several disks, or on a volume.
    ``problem`` says why its files cannot be seen.
    """

    name: str
    type: str
    label: str
    disk: str | None
    size: int | None
    used: int | None
    problem: str | None


class FileSystems(Model):
    file_systems: list[FileSystem]


class Entry(Model):
    """A file, directory or anything else with a name; ``target`` is where a link says that it leads.

    What is null cannot be told; ``mode`` are the permission bits.
    """

    name: str
    kind: FileKind
    size: int | None
    mode: int | None
    uid: int | None
    gid: int | None
    modified_at: Moment | None
    target: str | None


class Listing(Model):
    """A page of a directory: ``total`` entries there are, in the order of their bytes."""

    file_system: str
    path: str
    entries: list[Entry]
    offset: int
    total: int


class Look(Model):
    """What a path leads to."""

    kind: FileKind
    size: int


PROBLEMS = {
    "swap": "it is swap space",
    "unknown": "it is of no kind that is known here",
    "": "it is of no kind that is known here",
    "crypto_LUKS": "it is encrypted in the guest (LUKS)",
    "BitLocker": "it is encrypted in the guest (BitLocker)",
    "LVM2_member": "it belongs to a volume group that is not whole",
    "linux_raid_member": "it belongs to a RAID that is not whole",
}


def name_of(device: bytes) -> str:
    """The name of a file system: its device without ``/dev/``."""
    return shown(device.replace(b"/dev/", b"", 1))


def file_system_of(facts: Mapping[str, Any], disks: Sequence[str]) -> FileSystem:
    """What the worker says about a file system.

    :param disks: the names of the VM's disks, as the guest counts them
    """
    number, kind = facts["disk"], shown(raw(facts["type"]))
    problem = facts["problem"] or PROBLEMS.get(kind)
    return FileSystem(
        name=name_of(raw(facts["device"])),
        type=kind or "unknown",
        label=shown(raw(facts["label"])),
        disk=disks[number] if number is not None and 0 <= number < len(disks) else None,
        size=facts["size"],
        used=facts["used"],
        problem=_sentence(problem) if problem else None,
    )


def entry_of(facts: Mapping[str, Any]) -> Entry:
    """What the worker says about one name."""
    return Entry(
        name=shown(raw(facts["name"])),
        kind=FileKind(facts["kind"]),
        size=facts.get("size"),
        mode=facts["mode"] & MODES if "mode" in facts else None,
        uid=facts.get("uid"),
        gid=facts.get("gid"),
        modified_at=_moment(facts.get("mtime")),
        target=None if facts["target"] is None else shown(raw(facts["target"])),
    )


def _moment(seconds: int | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        # A file system may hold any number.
        return None


def _sentence(words: str) -> str:
    """One line of what a program has said."""
    return shown(" ".join(words.split()).encode("utf-8", "replace"))
