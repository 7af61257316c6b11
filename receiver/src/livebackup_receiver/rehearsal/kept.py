# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rehearsals have shown, in the store: ``<store>/rehearsals/<id>/result.json`` and its logs beside it.

The directory appears under its name when all in it is on the disk, and before the catalog knows of it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from livebackup_receiver.errors import ManifestInvalid, RehearsalUnknown
from livebackup_receiver.model import Model
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.store import durable
from livebackup_receiver.store.durable import TEMPORARY_SUFFIX
from livebackup_receiver.store.paths import NAME, POINT, Store

RESULT = "result.json"
# A picture of a large display has some megabytes.
LONGEST_LOG = 32 << 20


class ResultFile(Model):
    """The content of the file."""

    format_version: Literal[1] = 1
    rehearsal: Rehearsal


def keep(store: Store, rehearsal: Rehearsal, logs: Mapping[str, bytes]) -> None:
    """Keep a result durably with its logs, whose names are those of files.

    :raise OSError: it cannot be written
    """
    durable.make_directory(store.rehearsals)
    path = store.rehearsal(rehearsal.id)
    partial = path.with_name(path.name + TEMPORARY_SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    content = (ResultFile(rehearsal=rehearsal).model_dump_json(indent=2) + "\n").encode()
    for name, log in {RESULT: content, **logs}.items():
        durable.write_file(partial / name, log, sync_name=False)
    durable.sync_directory(partial)
    durable.rename(partial, path)


def read_result(store: Store, rehearsal: str) -> Rehearsal:
    """:raise ManifestInvalid: it is not there, or cannot be read"""
    path = store.rehearsal(rehearsal) / RESULT
    try:
        return ResultFile.model_validate_json(path.read_bytes()).rehearsal
    except OSError as error:
        raise ManifestInvalid(str(path), error.strerror or str(error)) from None
    except ValidationError as error:
        raise ManifestInvalid(str(path), error.errors()[0]["msg"]) from None


def find_result(store: Store, rehearsal: str) -> Rehearsal:
    """One that may not be there.

    :raise RehearsalUnknown: it is not
    :raise ManifestInvalid: it cannot be read
    """
    _require(store, rehearsal)
    return read_result(store, rehearsal)


def find_log(store: Store, rehearsal: str, vm: str, name_of: Callable[[str], str]) -> bytes:
    """A log of a VM; ``name_of`` gives the name of its file.

    :raise RehearsalUnknown: there is no such rehearsal, or it has no such log
    """
    _require(store, rehearsal)
    log = read_log(store.rehearsal(rehearsal) / name_of(vm)) if NAME.fullmatch(vm) else None
    if log is None:
        raise RehearsalUnknown(f"{rehearsal} with such a log of VM {vm}")
    return log


def _require(store: Store, rehearsal: str) -> None:
    if not POINT.fullmatch(rehearsal) or not store.rehearsal(rehearsal).is_dir():
        raise RehearsalUnknown(rehearsal)


def list_kept(store: Store) -> list[str]:
    """The ids of all that are kept, oldest first."""
    found = store.rehearsals.iterdir() if store.rehearsals.is_dir() else []
    return sorted(path.name for path in found if POINT.fullmatch(path.name))


def forget(store: Store, rehearsals: Iterable[str]) -> None:
    """Remove results with their logs."""
    for each in rehearsals:
        shutil.rmtree(store.rehearsal(each), ignore_errors=True)
    if store.rehearsals.is_dir():
        durable.sync_directory(store.rehearsals)


def remove_partial(store: Store) -> None:
    """Remove what an interrupted ``keep`` has left."""
    for path in store.rehearsals.glob(f"*{TEMPORARY_SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)


def read_log(path: Path) -> bytes | None:
    """A file that a guest may have had a hand in: no link or pipe, and nothing that is too long."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        content = file.read(LONGEST_LOG + 1)
    return content if len(content) <= LONGEST_LOG else None
