# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from livebackup_receiver.errors import StoreBusy
from livebackup_receiver.store.lock import hold_store

HOLDER = """
import sys, time
from pathlib import Path
from livebackup_receiver.store.lock import hold_store
with hold_store(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)
"""


def test_a_store_is_held_by_one(tmp_path: Path) -> None:
    with hold_store(tmp_path), pytest.raises(StoreBusy), hold_store(tmp_path):
        pass
    with hold_store(tmp_path):
        pass


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(StoreBusy), hold_store(tmp_path):
            pass
        holder.kill()
    with hold_store(tmp_path):
        pass
