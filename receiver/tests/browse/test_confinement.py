# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker can still do, asked of the kernel in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, subprocess, sys
from pathlib import Path
from livebackup_receiver.browse import confinement
readable, writable, store = (Path(each) for each in sys.argv[1:])
confinement.limit_resources()
print(confinement.close_in(readable=readable, writable=writable))
(writable / "new").write_text("x")
print((readable / "file").read_text())
for action in (
    lambda: (store / "layer").read_bytes(),
    lambda: (store / "new").write_text("x"),
    lambda: (readable / "new").write_text("x"),
    lambda: list(store.iterdir()),
    lambda: subprocess.run(["cat", str(store / "layer")], check=True, stderr=subprocess.DEVNULL),
):
    try:
        action()
    except (PermissionError, subprocess.CalledProcessError):
        print("refused")
print(resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_worker_and_its_children_reach_no_layer(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("readable", "writable", "store")]
    for place in places:
        place.mkdir()
    (places[0] / "file").write_text("appliance")
    (places[2] / "layer").write_text("secret")
    argv = [sys.executable, "-c", PROGRAM, *map(str, places)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["True", "appliance", *["refused"] * 5, "(0, 0)"], done.stderr
