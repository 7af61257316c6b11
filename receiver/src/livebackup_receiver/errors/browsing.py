# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors about looking into the disks of a point."""

from __future__ import annotations

from dataclasses import dataclass

from livebackup_receiver.errors.base import ReceiverError
from livebackup_receiver.errors.conflicts import Conflict
from livebackup_receiver.errors.refusals import Refused
from livebackup_receiver.errors.unknown import Unknown


@dataclass(eq=False)
class BrowseUnavailable(ReceiverError):
    """This machine lacks what a throw-away guest is made of."""

    problem: str
    hint: str
    code = "browse-unavailable"
    http_status = 503
    exit_code = 9
    cause_template = "files cannot be looked at on this machine: {e.problem}"
    remedy_template = "{e.hint}"


@dataclass(eq=False)
class BrowseFailed(ReceiverError):
    """The throw-away guest did not start, has crashed, or does not answer."""

    point: str
    vm: str
    problem: str
    code = "browse-failed"
    exit_code = 9
    cause_template = "the guest that reads the disks of VM {e.vm} at point {e.point} has ended: {e.problem}"
    remedy_template = "try again; if it ends each time, restore the disks and look at them elsewhere"


@dataclass(eq=False)
class BrowseLimit(ReceiverError):
    """As many are open as may be."""

    limit: int
    code = "browse-limit"
    http_status = 503
    exit_code = 3
    cause_template = "the files of {e.limit} VMs are being looked at already, and browse_limit allows no more"
    remedy_template = "close one of them, or wait until it ends by itself"


@dataclass(eq=False)
class BrowseUnknown(Unknown):
    browse: str
    code = "browse-unknown"
    cause_template = "{e.browse} is not open, or was closed because nobody used it"
    remedy_template = "open the files of the VM again"


@dataclass(eq=False)
class GuestFileUnknown(Unknown):
    """A file system or path that the guest's disks do not hold."""

    what: str
    problem: str
    code = "guest-file-unknown"
    cause_template = "{e.what}: {e.problem}"
    remedy_template = "list what there is with `livebackup-receiver files list`, or on the page"


@dataclass(eq=False)
class GuestFileUnsuitable(Conflict):
    """Of another kind or size than what was asked for."""

    what: str
    problem: str
    code = "guest-file-unsuitable"
    cause_template = "{e.what}: {e.problem}"
    remedy_template = "choose another, or restore the disk and take it from there"


@dataclass(eq=False)
class GuestBusy(Conflict):
    """A guest does one thing after another."""

    vm: str
    code = "guest-busy"
    cause_template = "somebody else is taking files out of VM {e.vm}"
    remedy_template = "wait until that has ended, or close the files of the VM and open them again"


@dataclass(eq=False)
class GuestFileUnreadable(ReceiverError):
    """The guest's file system is damaged, of an unknown kind, or encrypted."""

    what: str
    problem: str
    code = "guest-file-unreadable"
    http_status = 409
    exit_code = 10
    cause_template = "{e.what} cannot be read: {e.problem}"
    remedy_template = "take it from an older point, or restore the disk and repair its file system there"


@dataclass(eq=False)
class GuestPathInvalid(Refused):
    path: str
    problem: str
    code = "guest-path-invalid"
    cause_template = "the path {e.path!r} cannot be meant: {e.problem}"
    remedy_template = "write it as it is shown"
