# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors of the collection. For internal use of livebackup.qemu only.

They are split by what the user can do about them. Each message is one sentence that names the object, the
cause and the remedy; the facts behind it are keyword arguments kept in ``facts``. Only ``_module.run`` turns
an error into ``fail_json``.

::

    LivebackupError
     +-- DependencyError          install something on this host
     +-- OptionError              change an option of the task
     |    +-- ScratchUnusable
     +-- MonitorError             the QMP socket
     |    +-- SocketAbsent
     |    +-- SocketBusy
     |    +-- VmNotRunning
     |    +-- MonitorLost
     |    +-- MonitorSilent
     |    +-- CommandRefused
     +-- VmError                  the VM as it is
     |    +-- VmUnknown
     |    +-- VmOwned
     |    +-- VmUnsupported
     |    +-- DiskUnknown
     |    +-- DiskUnsupported
     |    +-- DiskBusy
     |    +-- ImageInUse
     |    +-- NotTracked
     |    +-- CannotPersist
     +-- AgentError               the guest agent
     +-- CutError                 the stop window
     |    +-- BudgetSpent
     |    +-- HookFailed
     +-- TransferError            the way to the receiver
     |    +-- SnapshotBroken
     |    +-- ReceiverStalled
     |    +-- ComparisonFailed
     +-- ReceiverError            the receiver's API
     |    +-- ReceiverUnreachable
     |    |    +-- ReceiverUntrusted
     |    +-- ReceiverRefused
     |    +-- ReceiverOther
     |    +-- ReceiverLost
     |    +-- SessionAborted
     +-- RestoreError             the files to restore to
          +-- FileExists
          +-- FileInUse
          +-- SpaceShort
          +-- FormatOther
          +-- ContentWrong
          +-- ProgramFailed
"""

from __future__ import annotations

from typing import Any


class LivebackupError(Exception):
    """Base of all. ``code`` is stable and meant for ``when:`` conditions; ``facts`` are JSON values."""

    code = "failed"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def details(self) -> dict[str, Any]:
        """What a playbook can decide by: the stable code and the facts."""
        return {"code": self.code, **self.facts}


class DependencyError(LivebackupError):
    """A library or program is missing on this host."""

    code = "dependency-missing"


class OptionError(LivebackupError):
    """Options that contradict each other or the host."""

    code = "option-invalid"


class ScratchUnusable(OptionError):
    """No scratch image can be made."""

    code = "scratch-unusable"


class MonitorError(LivebackupError):
    """Something is wrong between us and a QMP socket. Facts: socket."""

    code = "qmp-failed"


class SocketAbsent(MonitorError):
    """There is no socket file."""

    code = "qmp-socket-absent"


class SocketBusy(MonitorError):
    """The socket accepts but does not greet: QEMU serves one client at a time."""

    code = "qmp-socket-busy"


class VmNotRunning(MonitorError):
    """The socket file is there, but no QEMU listens behind it."""

    code = "vm-not-running"


class MonitorLost(MonitorError):
    """The connection ended while it was in use: the QEMU process is gone, or it hung up."""

    code = "qmp-lost"


class MonitorSilent(MonitorError):
    """A command was not answered in time. It may still be executed."""

    code = "qmp-silent"


class CommandRefused(MonitorError):
    """QEMU answered with an error. Facts: vm, command, reason."""

    code = "qmp-refused"


class VmError(LivebackupError):
    """The VM is not as the task needs it. Facts: vm."""

    code = "vm-unsuitable"


class VmUnknown(VmError):
    """No monitor belongs to a VM of that name."""

    code = "vm-unknown"


class VmOwned(VmError):
    """An open session owns the VM. Facts: session."""

    code = "vm-busy"


class VmUnsupported(VmError):
    """Its QEMU lacks a feature, or its run state forbids a backup."""

    code = "vm-unsupported"


class DiskUnknown(VmError):
    """The VM has no disk of that name."""

    code = "disk-unknown"


class DiskUnsupported(VmError):
    """The disk's format or device cannot be backed up."""

    code = "format-unsupported"


class DiskBusy(VmError):
    """Another job or filter is on the disk, or it changed under us."""

    code = "disk-busy"


class ImageInUse(VmError):
    """Another process has an image of a stopped VM open. Facts: disk, file."""

    code = "image-in-use"


class NotTracked(VmError):
    """No disk of the VM is tracked."""

    code = "no-tracked-disk"


class CannotPersist(VmError):
    """The image cannot store a bitmap."""

    code = "bitmap-not-persistent"


class AgentError(LivebackupError):
    """The guest agent is absent, silent, or could not freeze or thaw. Facts: vm."""

    code = "agent-failed"


class CutError(LivebackupError):
    """The stop window went wrong."""

    code = "cut-failed"


class BudgetSpent(CutError):
    """The VMs would have been stopped for too long."""

    code = "stop-budget-spent"


class HookFailed(CutError):
    """The command to run in the stop window failed or took too long."""

    code = "cut-hook-failed"


class TransferError(LivebackupError):
    """The data did not reach the receiver. Facts: vm, disk."""

    code = "transfer-failed"


class SnapshotBroken(TransferError):
    """Old data could not be kept in the scratch image, so QEMU gave the snapshot up (not the guest)."""

    code = "snapshot-broken"


class ReceiverStalled(TransferError):
    """The receiver's storage daemon answered nothing for too long."""

    code = "receiver-stalled"


class ComparisonFailed(TransferError):
    """A disk could not be compared with its head. Facts: vm, disk, reason."""

    code = "comparison-failed"


class ReceiverError(LivebackupError):
    """The receiver's API."""

    code = "receiver-failed"


class ReceiverUnreachable(ReceiverError):
    """No answer from the receiver."""

    code = "receiver-unreachable"


class ReceiverUntrusted(ReceiverUnreachable):
    """The receiver's certificate has expired, is for another name, or is not from the given authority."""

    code = "receiver-untrusted"


class ReceiverRefused(ReceiverError):
    """The receiver answered with an error; code and message are the receiver's."""

    def __init__(self, message: str, *, code: str, status: int) -> None:
        super().__init__(message, status=status)
        self.code = code
        self.status = status


class ReceiverOther(ReceiverError):
    """The receiver is of another version than this collection. Facts: receiver_version."""

    code = "receiver-other"


class ReceiverLost(ReceiverError):
    """The connection to the receiver's storage daemon broke, or nothing comes over it. Facts: disk."""

    code = "receiver-lost"


class SessionAborted(ReceiverError):
    """The receiver aborted the session. Facts: session."""

    code = "session-aborted"


class RestoreError(LivebackupError):
    """The files to restore to."""

    code = "restore-failed"


class FileExists(RestoreError):
    """Something else is at the destination."""

    code = "file-exists"


class FileInUse(RestoreError):
    """A process holds the image lock of the destination."""

    code = "file-in-use"


class SpaceShort(RestoreError):
    """The file system is too full."""

    code = "space-short"


class FormatOther(RestoreError):
    """The older copy is of another format than the task names."""

    code = "format-other"


class ContentWrong(RestoreError):
    """The receiver sent something else than was backed up. Facts: disk, offset, length."""

    code = "content-wrong"


class ProgramFailed(RestoreError):
    """A program ended with an error. Facts: argv, rc, stderr."""

    code = "program-failed"
