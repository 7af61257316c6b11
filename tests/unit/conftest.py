# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the collection under its own name, wherever the checkout lies."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = ROOT / "build/collections/ansible_collections/livebackup/qemu"


def _find_collection() -> None:
    # ansible-test has put it where it belongs
    if importlib.util.find_spec("ansible_collections") is not None:
        return
    LINK.parent.mkdir(parents=True, exist_ok=True)
    if not LINK.exists():
        LINK.symlink_to(ROOT)
    sys.path.insert(0, str(LINK.parents[2]))


_find_collection()
