# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one library the modules need on a hypervisor. For internal use of livebackup.qemu only.

Must be kept in step with doc_fragments/_qmp.py (requirements).
"""

from __future__ import annotations

import os

from ansible.module_utils.common.respawn import has_respawned, respawn_module
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DependencyError

VENV = "/opt/livebackup/venv"
VENV_PYTHON = f"{VENV}/bin/python"
MINIMUM = "0.0.6"

try:
    from qemu.qmp import ExecuteError, QMPClient, QMPError

    HAVE_QEMU_QMP = True
except ImportError:
    QMPClient = None  # type: ignore[misc, assignment]

    class QMPError(Exception):  # type: ignore[no-redef]
        """Stands in for the library's; without it no code comes so far that this could be raised."""

    class ExecuteError(QMPError):  # type: ignore[no-redef]
        """As above."""

    HAVE_QEMU_QMP = False

__all__ = ["ExecuteError", "QMPClient", "QMPError", "require_qemu_qmp"]


def require_qemu_qmp() -> None:
    """Return if qemu.qmp can be used; else start this module again under the virtual environment's Python.

    Raises DependencyError if that environment does not exist or has no qemu.qmp either.
    """
    if HAVE_QEMU_QMP:
        return
    if os.path.exists(VENV_PYTHON) and not has_respawned():  # type: ignore[no-untyped-call]
        respawn_module(VENV_PYTHON)
    raise DependencyError(
        f"The Python library qemu.qmp (>= {MINIMUM}) is missing on this host; "
        f"apply the role livebackup.qemu.hypervisor, which installs it under {os.path.dirname(VENV_PYTHON)}.",
        library="qemu.qmp",
    )
