# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a session has received when all its transfers have ended; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from livebackup_receiver.coordinator.membership import lacking
from livebackup_receiver.model import Consistency, MissingVm, Session, SessionState, Transfer, TransferState
from livebackup_receiver.store.manifest import Member


@dataclass(frozen=True)
class Receipt:
    """The transfers that will make the point, and the instant of their cut."""

    session: str
    group: str
    transfers: tuple[Transfer, ...]
    cut_at: datetime
    complete: bool
    missing: tuple[MissingVm, ...] = ()

    @cached_property
    def members(self) -> list[Member]:
        """The disks of the point, as each of its manifests names them."""
        return [Member(vm=each.vm, disk=each.disk) for each in self.transfers]

    def consistency_of(self, transfer: Transfer) -> Consistency:
        """What the guest had done for the cut; nothing, if its participant did not say."""
        return transfer.consistency or Consistency.CRASH


def receipt_of(session: Session) -> Receipt:
    """The receipt of a session whose participants have transferred everything."""
    received = tuple(disk for disk in session.disks if disk.state is TransferState.TRANSFERRED)
    missing = tuple(lacking(session))
    return Receipt(
        session=session.id,
        group=session.group,
        transfers=received,
        cut_at=cut_at(session),
        complete=len(received) == len(session.disks)
        and {disk.host for disk in received} == set(session.hosts)
        and not missing,
        missing=missing,
    )


def cut_at(session: Session) -> datetime:
    """The cut: when every VM stood still and none ran again yet."""
    return next(each.at for each in session.transitions if each.to == SessionState.CUTTING)
