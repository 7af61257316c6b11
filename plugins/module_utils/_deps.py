# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The libraries the modules need on a hypervisor. For internal use of livebackup.qemu only.

Must be kept in step with doc_fragments/_qmp.py and modules/restore.py (requirements). pip has no libnbd, so
it is the distribution's, also for the virtual environment, which is of the same Python.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from ansible.module_utils.common.respawn import has_respawned, respawn_module
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DependencyError

VENV = "/opt/livebackup/venv"
VENV_PYTHON = f"{VENV}/bin/python"
MINIMUM = "0.0.6"
# where distributions have libnbd's module, of which {0} is Python's version
DISTRIBUTION = (
    "/usr/lib/python3/dist-packages",
    "/usr/lib64/python{0}/site-packages",
    "/usr/lib/python{0}/site-packages",
)

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

__all__ = [
    "ExecuteError",
    "QMPClient",
    "QMPError",
    "blake3",
    "libnbd",
    "require_qemu_qmp",
    "require_restore",
]


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


def require_restore() -> None:
    """As ``require_qemu_qmp``, for what a restore reads and checks with."""
    missing = [name for name, found in (("libnbd", libnbd()), ("blake3", blake3())) if found is None]
    if not missing:
        return
    if os.path.exists(VENV_PYTHON) and not has_respawned():  # type: ignore[no-untyped-call]
        respawn_module(VENV_PYTHON)
    raise DependencyError(
        f"The Python library {' and '.join(missing)}, by which a restore checks what it reads, cannot be "
        f"used by {sys.executable} on this host; apply the role livebackup.qemu.hypervisor, which installs "
        "it.",
        library=missing[0],
    )


def libnbd() -> Any:
    """The module ``nbd`` of libnbd, or None."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = _imported("nbd")
    for directory in (each.format(version) for each in DISTRIBUTION):
        if found is None and os.path.exists(os.path.join(directory, "nbd.py")):
            # nothing else may come from there
            sys.path.append(directory)
            found = _imported("nbd")
            sys.path.remove(directory)
    return found


def blake3() -> Any:
    """The function of the library of the same name, or None."""
    return getattr(_imported("blake3"), "blake3", None)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
