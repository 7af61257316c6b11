# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain below a point of a disk as the manifests beside its layers tell it."""

from __future__ import annotations

import json
from pathlib import Path

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.store.paths import POINT, DiskDirectory


def ancestry(directory: DiskDirectory, point: str) -> list[str]:
    """A point and those below it, the full one first.

    :raise ManifestInvalid: a manifest of the chain is missing, names no point, or leads back to itself
    """
    chain: list[str] = []
    wanted: str | None = point
    while wanted is not None:
        if wanted in chain:
            raise ManifestInvalid(str(directory.manifest(wanted)), "its chain leads back to itself")
        chain.append(wanted)
        wanted = _parent(directory.manifest(wanted))
    return chain[::-1]


def _parent(manifest: Path) -> str | None:
    # Only one field is needed, of perhaps dozens of manifests for each of hundreds of disks.
    try:
        fields = json.loads(manifest.read_bytes())
        parent = fields["parent"]
    except OSError as error:
        raise ManifestInvalid(str(manifest), error.strerror or str(error)) from None
    except (ValueError, TypeError, KeyError):
        raise ManifestInvalid(str(manifest), "it names no parent") from None
    if parent is not None and not (isinstance(parent, str) and POINT.fullmatch(parent)):
        raise ManifestInvalid(str(manifest), "its parent is no point")
    return parent
