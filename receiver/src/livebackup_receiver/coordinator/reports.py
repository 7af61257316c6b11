# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What participants report: their VMs when they join, and the facts of each later step."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from livebackup_receiver.model import Consistency, Model
from livebackup_receiver.model import ParticipantState as Step

Size = Annotated[int, Field(ge=0, lt=1 << 63)]
# Longer than any proxy waits, shorter than the silence limit would allow.
WAIT_LIMIT_S = 60.0


class AgentState(StrEnum):
    RESPONDING = "responding"
    ABSENT = "absent"
    SILENT = "silent"


class BitmapFault(StrEnum):
    """Why a bitmap does not tell everything that was written since its point."""

    INCONSISTENT = "inconsistent"
    SHRUNK = "shrunk"
    SNAPSHOT = "snapshot"


class BitmapReport(Model):
    """A checkpoint bitmap that is, or was until now, on a disk.

    ``point`` is what follows ``livebackup:`` in its name.
    """

    point: str
    healthy: bool
    dirty_bytes: Size | None = None
    fault: BitmapFault | None = None


class DiskReport(Model):
    """One disk of a VM; ``allocated_bytes`` sharpens the estimate of a full backup, if it is known.

    ``growth_unit``: if its size is a multiple of this and it grows, the new area reads as zeros. None if that
    is not known.
    """

    disk: str
    node: str
    format: str
    virtual_size: Size
    tracked: bool
    persistent: bool
    granularity: Size | None = None
    allocated_bytes: Size | None = None
    growth_unit: Annotated[int, Field(ge=1)] | None = None
    bitmaps: Annotated[list[BitmapReport], Field(default_factory=list)]


class VmReport(Model):
    """One VM with all its disks, tracked or not; ``stopped`` if it has no QEMU and its images are read.

    ``can_resync``: its host can compare digests; ``resync_lacks`` says what is missing if not.
    """

    vm: str
    running: bool
    stopped: bool = False
    agent: AgentState
    qemu_version: str
    capabilities: list[str]
    can_resync: bool = False
    resync_lacks: str | None = None
    disks: list[DiskReport]

    @property
    def tracked_disks(self) -> list[DiskReport]:
        return [disk for disk in self.disks if disk.tracked]


class StoppedVm(Model):
    vm: str
    consistency: Consistency


class CutDisk(Model):
    disk: str
    dirty_bytes: Size
    virtual_size: Size


class CutVm(Model):
    """A VM that runs again after its cut."""

    vm: str
    pause_ms: Annotated[float, Field(ge=0)]
    consistency: Consistency
    disks: list[CutDisk]


class DiskProgress(Model):
    vm: str
    disk: str
    done_bytes: Size
    total_bytes: Size
    sent_bytes: Size


class DiskSent(Model):
    """A disk whose data is all sent; ``dirty_bytes`` if only the comparison has shown how much that is."""

    vm: str
    disk: str
    sent_bytes: Size
    dirty_bytes: Size | None = None


class Nothing(Model):
    """The facts of a step that has none."""


class JoinedFacts(Model):
    vms: list[VmReport]


class StoppedFacts(Model):
    vms: list[StoppedVm]


class CutFacts(Model):
    vms: list[CutVm]


class TransferringFacts(Model):
    disks: list[DiskProgress]


class TransferredFacts(Model):
    disks: list[DiskSent]


class FailedFacts(Model):
    reason: Annotated[str, Field(min_length=1)]


class FinishedFacts(Model):
    removed: Annotated[list[str], Field(default_factory=list)]


class StepBody(Model):
    """Base of the steps: a participant says where it is and waits for an order."""

    wait_s: Annotated[float, Field(ge=0, le=WAIT_LIMIT_S)] = 20.0


class JoinedStep(StepBody):
    step: Literal[Step.JOINED]
    facts: JoinedFacts


class PreparedStep(StepBody):
    step: Literal[Step.PREPARED]
    facts: Nothing = Nothing()


class StoppedStep(StepBody):
    step: Literal[Step.STOPPED]
    facts: StoppedFacts


class CutStep(StepBody):
    step: Literal[Step.CUT]
    facts: CutFacts


class TransferringStep(StepBody):
    step: Literal[Step.TRANSFERRING]
    facts: TransferringFacts


class TransferredStep(StepBody):
    step: Literal[Step.TRANSFERRED]
    facts: TransferredFacts


class FailedStep(StepBody):
    step: Literal[Step.FAILED]
    facts: FailedFacts


class FinishedStep(StepBody):
    step: Literal[Step.FINISHED]
    facts: FinishedFacts


AnyStep = (
    JoinedStep
    | PreparedStep
    | StoppedStep
    | CutStep
    | TransferringStep
    | TransferredStep
    | FailedStep
    | FinishedStep
)
ReportedStep = Annotated[AnyStep, Field(discriminator="step")]
