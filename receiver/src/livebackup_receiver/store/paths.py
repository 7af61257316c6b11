# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each file of the store lies; pure.

Names of VMs and disks come from other machines, so they are checked before they become directories:
nothing can leave the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from livebackup_receiver.errors import NameInvalid

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)
POINT = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)

LAYER_SUFFIX = ".qcow2"
MANIFEST_SUFFIX = ".json"
DIGESTS_SUFFIX = ".digests"
PARTIAL_SUFFIX = ".partial"
INTENT_SUFFIX = ".merging"


def check_name(kind: str, name: str) -> str:
    """The name, if it is safe as the name of a directory.

    :raise NameInvalid: it is not
    """
    if not NAME.fullmatch(name):
        raise NameInvalid(kind, name)
    return name


def check_point(point: str) -> str:
    """The id, if it is a ULID.

    :raise NameInvalid: it is not
    """
    if not POINT.fullmatch(point):
        raise NameInvalid("point", point)
    return point


@dataclass(frozen=True)
class DiskDirectory:
    """The directory of one disk: ``<store>/vms/<vm>/<disk>``."""

    path: Path

    def layer(self, point: str) -> Path:
        return self.path / (check_point(point) + LAYER_SUFFIX)

    def partial(self, point: str) -> Path:
        return self.path / (check_point(point) + PARTIAL_SUFFIX)

    def manifest(self, point: str) -> Path:
        return self.path / (check_point(point) + MANIFEST_SUFFIX)

    def digests(self, point: str) -> Path:
        return self.path / (check_point(point) + DIGESTS_SUFFIX)

    def intent(self, point: str) -> Path:
        """What is being merged into this point's layer; there only while that goes on."""
        return self.path / (check_point(point) + INTENT_SUFFIX)

    def intents(self) -> list[Path]:
        """Every intent in the directory."""
        return sorted(path for path in self.path.glob(f"*{INTENT_SUFFIX}") if POINT.fullmatch(path.stem))

    def files_of(self, point: str) -> tuple[Path, ...]:
        """Every file that a session may have made for this point, whether or not it exists."""
        return self.partial(point), self.layer(point), self.manifest(point), self.digests(point)


@dataclass(frozen=True)
class Store:
    """The store's root."""

    root: Path

    @property
    def vms(self) -> Path:
        return self.root / "vms"

    @property
    def run(self) -> Path:
        """Where storage daemons have their private directories, with keys in them; empty at rest."""
        return self.root / "run"

    @property
    def format(self) -> Path:
        """The version of all this; see ``store.format``."""
        return self.root / "format.json"

    @property
    def points(self) -> Path:
        """Where decisions about points are kept; see ``store.marks``."""
        return self.root / "points"

    @property
    def policies(self) -> Path:
        """What is to be kept; see ``store.policies``."""
        return self.root / "policies.json"

    @property
    def leases(self) -> Path:
        """Which points VMs are read from; see ``store.leases``."""
        return self.root / "leases"

    def lease(self, lease: str) -> Path:
        """:raise NameInvalid: it is no lease's id"""
        return self.leases / (check_point(lease) + MANIFEST_SUFFIX)

    @property
    def recovery_plans(self) -> Path:
        """How groups are brought up; see ``store.recovery_plans``."""
        return self.root / "recovery-plans.json"

    @property
    def rehearsals(self) -> Path:
        """What rehearsals have shown; see ``rehearsal.kept``."""
        return self.root / "rehearsals"

    @property
    def rehearsing(self) -> Path:
        """Where rehearsals that run have their private directories; empty at rest."""
        return self.rehearsals / "running"

    def rehearsal(self, rehearsal: str) -> Path:
        """:raise NameInvalid: it is no rehearsal's id"""
        if not POINT.fullmatch(rehearsal):
            raise NameInvalid("rehearsal", rehearsal)
        return self.rehearsals / rehearsal

    def mark(self, point: str) -> Path:
        """:raise NameInvalid: it is no point's id"""
        return self.points / (check_point(point) + MANIFEST_SUFFIX)

    def disk(self, vm: str, disk: str) -> DiskDirectory:
        """:raise NameInvalid: a name is not safe as a directory"""
        return DiskDirectory(self.vms / check_name("VM", vm) / check_name("disk", disk))

    def relative(self, path: Path) -> str:
        """The path as catalog and API say it: relative to the root."""
        return str(path.relative_to(self.root))

    def disks(self) -> list[tuple[str, str, DiskDirectory]]:
        """Every disk that has a directory: VM, disk, directory; names that are not ours are left alone."""
        found = sorted(self.vms.glob("*/*")) if self.vms.is_dir() else []
        return [
            (path.parent.name, path.name, DiskDirectory(path))
            for path in found
            if path.is_dir() and NAME.fullmatch(path.name) and NAME.fullmatch(path.parent.name)
        ]
