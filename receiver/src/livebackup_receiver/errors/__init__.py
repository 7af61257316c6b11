# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error the receiver raises on purpose.

ReceiverError                      500  exit 1
|- ConfigInvalid                   500  exit 2
|- CatalogFailed                   503  exit 3
|- CatalogLost                     503  exit 3
|- CatalogNotEmpty                 500  exit 3
|- NotReady                        503  exit 3
|- NotRunning                      503  exit 3
|- RequestRefused                  500  exit 3
|- TokenInvalid                    401  exit 4
|- RoleDenied                      403  exit 4
|- Unknown                         404  exit 5
|  |- SessionUnknown
|  |- PointUnknown
|  |- GroupUnknown
|  |- VmUnknown
|  |- DiskUnknown
|  |- ExportUnknown
|  |- LeaseUnknown
|  |- NoResync
|  |- PolicyUnknown
|  |- RecoveryPlanUnknown
|  |- RehearsalUnknown
|  |- NoPoint
|  |- TokenUnknown
|  |- BrowseUnknown
|  |- GuestFileUnknown
|  `- RouteUnknown
|- StoreBusy                       503  exit 3
|- StoreUnsupported                500  exit 8
|- Conflict                        409  exit 6
|  |- GroupBusy
|  |- VmBusy
|  |- RehearsalRunning
|  |- SessionCommitted
|  |- StepUnexpected
|  |- TransitionRefused
|  |- TokenExists
|  |- LayerInUse
|  |- PointKept
|  |- MinimumUndercut
|  |- LockShortened
|  |- NameTaken
|  |- TargetExists
|  |- GuestBusy
|  |- GuestFileUnsuitable
|  `- TargetInUse
|- Refused                         422  exit 7
|  |- BodyInvalid
|  |- NameInvalid
|  |- HostUnknown
|  |- NoVms
|  |- NoTrackedDisk
|  |- FormatUnsupported
|  |- RetentionInvalid
|  |- RecoveryPlanInvalid
|  |- DatePassed
|  |- TargetUnwritable
|  |- OptionsUnclear
|  `- BasisUnusable
|  |- GuestPathInvalid
|  `- TargetUnwritable
|- StoreFull                       507  exit 8
|- StoreFailed                     500  exit 8
|- TargetFull                      507  exit 8
|- TargetFaulty                    500  exit 8
|- CommandFailed                   500  exit 9
|  `- CommandTimedOut
|- StorageDaemonFailed             500  exit 9
|  `- NoPortFree                   503
|- BrowseUnavailable               503  exit 9
|- BrowseFailed                    500  exit 9
|- BrowseLimit                     503  exit 3
|- GuestFileUnreadable             409  exit 10
|- LayerDamaged                    500  exit 10
|- PointDamaged                    409  exit 10
|  `- PointLost
|- LayerUnsupported                500  exit 10
|- KeyMissing                      500  exit 10
|- ManifestInvalid                 500  exit 10
|- DigestsInvalid                  500  exit 10
`- SessionAborted                  409  exit 11
   |- JoinTimedOut
   |- ParticipantSilent
   |- ParticipantFailed
   |- NobodyLeft
   |- TransferStalled
   |- RequiredVmMissing
   |- TooFewVms
   |- VmMissing
   |- AbortRequested
   `- SessionInterrupted

Each branch has a file of its own. A class says its facts as fields, its sentence as ``cause`` and
what to do as ``remedy``; both are format strings over the error itself (``e``). ``code`` is the
stable word of the API. The HTTP status is applied in ``api.app``, the exit code in ``__main__``, and
nowhere else.
"""

from __future__ import annotations

from livebackup_receiver.errors.aborts import (
    AbortRequested,
    JoinTimedOut,
    NobodyLeft,
    ParticipantFailed,
    ParticipantSilent,
    RequiredVmMissing,
    SessionAborted,
    SessionInterrupted,
    TooFewVms,
    TransferStalled,
    VmMissing,
)
from livebackup_receiver.errors.access import (
    RoleDenied,
    TokenInvalid,
)
from livebackup_receiver.errors.base import (
    CatalogFailed,
    CatalogLost,
    CatalogNotEmpty,
    ConfigInvalid,
    NotReady,
    NotRunning,
    ReceiverError,
    RequestRefused,
    StoreBusy,
    StoreUnsupported,
)
from livebackup_receiver.errors.browsing import (
    BrowseFailed,
    BrowseLimit,
    BrowseUnavailable,
    BrowseUnknown,
    GuestBusy,
    GuestFileUnknown,
    GuestFileUnreadable,
    GuestFileUnsuitable,
    GuestPathInvalid,
)
from livebackup_receiver.errors.conflicts import (
    Conflict,
    GroupBusy,
    LayerInUse,
    LockShortened,
    MinimumUndercut,
    NameTaken,
    PointKept,
    RehearsalRunning,
    SessionCommitted,
    StepUnexpected,
    TargetExists,
    TargetInUse,
    TokenExists,
    TransitionRefused,
    VmBusy,
)
from livebackup_receiver.errors.refusals import (
    BasisUnusable,
    BodyInvalid,
    DatePassed,
    FormatUnsupported,
    HostUnknown,
    NameInvalid,
    NoTrackedDisk,
    NoVms,
    OptionsUnclear,
    RecoveryPlanInvalid,
    Refused,
    RetentionInvalid,
    TargetUnwritable,
)
from livebackup_receiver.errors.unknown import (
    DiskUnknown,
    ExportUnknown,
    GroupUnknown,
    LeaseUnknown,
    NoPoint,
    NoResync,
    PointUnknown,
    PolicyUnknown,
    RecoveryPlanUnknown,
    RehearsalUnknown,
    RouteUnknown,
    SessionUnknown,
    TokenUnknown,
    Unknown,
    VmUnknown,
)
from livebackup_receiver.errors.work import (
    CommandFailed,
    CommandTimedOut,
    DigestsInvalid,
    KeyMissing,
    LayerDamaged,
    LayerUnsupported,
    ManifestInvalid,
    NoPortFree,
    PointDamaged,
    PointLost,
    StorageDaemonFailed,
    StoreFailed,
    StoreFull,
    TargetFaulty,
    TargetFull,
)

__all__ = [
    "AbortRequested",
    "BasisUnusable",
    "BodyInvalid",
    "BrowseFailed",
    "BrowseLimit",
    "BrowseUnavailable",
    "BrowseUnknown",
    "CatalogFailed",
    "CatalogLost",
    "CatalogNotEmpty",
    "CommandFailed",
    "CommandTimedOut",
    "ConfigInvalid",
    "Conflict",
    "DatePassed",
    "DigestsInvalid",
    "DiskUnknown",
    "ExportUnknown",
    "FormatUnsupported",
    "GroupBusy",
    "GroupUnknown",
    "GuestBusy",
    "GuestFileUnknown",
    "GuestFileUnreadable",
    "GuestFileUnsuitable",
    "GuestPathInvalid",
    "HostUnknown",
    "JoinTimedOut",
    "KeyMissing",
    "LayerDamaged",
    "LayerInUse",
    "LayerUnsupported",
    "LeaseUnknown",
    "LockShortened",
    "ManifestInvalid",
    "MinimumUndercut",
    "NameInvalid",
    "NameTaken",
    "NoPoint",
    "NoPortFree",
    "NoResync",
    "NoTrackedDisk",
    "NoVms",
    "NobodyLeft",
    "NotReady",
    "NotRunning",
    "OptionsUnclear",
    "ParticipantFailed",
    "ParticipantSilent",
    "PointDamaged",
    "PointKept",
    "PointLost",
    "PointUnknown",
    "PolicyUnknown",
    "ReceiverError",
    "RecoveryPlanInvalid",
    "RecoveryPlanUnknown",
    "Refused",
    "RehearsalRunning",
    "RehearsalUnknown",
    "RequestRefused",
    "RequiredVmMissing",
    "RetentionInvalid",
    "RoleDenied",
    "RouteUnknown",
    "SessionAborted",
    "SessionCommitted",
    "SessionInterrupted",
    "SessionUnknown",
    "StepUnexpected",
    "StorageDaemonFailed",
    "StoreBusy",
    "StoreFailed",
    "StoreFull",
    "StoreUnsupported",
    "TargetExists",
    "TargetFaulty",
    "TargetFull",
    "TargetInUse",
    "TargetUnwritable",
    "TokenExists",
    "TokenInvalid",
    "TokenUnknown",
    "TooFewVms",
    "TransferStalled",
    "TransitionRefused",
    "Unknown",
    "VmBusy",
    "VmMissing",
    "VmUnknown",
]
