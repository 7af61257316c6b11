# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check by its name, and how they are run. One that cannot even be run has failed, and says why."""

from __future__ import annotations

import logging

from sqlalchemy.exc import SQLAlchemyError

from livebackup_receiver.checks import backups, files, installation, rehearsals, store
from livebackup_receiver.checks.result import Check, CheckFunction, Inspection, failed
from livebackup_receiver.errors import ReceiverError

log = logging.getLogger(__name__)

CHECKS: dict[str, CheckFunction] = {
    "store": store.check_root,
    "room": store.check_room,
    "file-system": store.check_file_systems,
    "programs": installation.check_programs,
    "catalog": installation.check_catalog,
    "certificate": installation.check_certificate,
    "layers": store.check_layers,
    "scrub": store.check_scrub,
    "rehearsals": rehearsals.check_rehearsals,
    "sessions": backups.check_sessions,
    "freshness": backups.check_freshness,
    "files": files.check_files,
    "notifications": installation.check_notifications,
}
"""What is run, in the order in which the results are shown."""


async def run_checks(inspection: Inspection) -> list[Check]:
    """Every check's results, in a fixed order."""
    return [result for name, check in CHECKS.items() for result in await _run(name, check, inspection)]


async def _run(name: str, check: CheckFunction, inspection: Inspection) -> list[Check]:
    try:
        return await check(inspection)
    except SQLAlchemyError as error:
        # The check of the catalog says what is wrong with it, so this is no news worth a traceback.
        words = str(error).partition("\n")[0]
        log.warning("check %s: %s", name, words)
        return [failed(name, f"the catalog cannot be asked: {words}")]
    except Exception as error:
        # Whatever it is: a check that breaks must be seen as failed, and not end the others.
        log.warning("check %s: %s", name, error, exc_info=not isinstance(error, ReceiverError))
        return [failed(name, str(error).partition("\n")[0] or type(error).__name__)]
