# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ``ansible-test sanity`` on the files of the checkout, committed or not.

ansible-test insists on a real path ending in ``ansible_collections/livebackup/qemu`` and on a git tree
there, so the files are copied into one under build/sanity, which is also the home directory of the run.
"""

from __future__ import annotations

import filecmp
import os
import pathlib
import shutil
import subprocess
import sys

import get_pip

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "sanity"
COPY = HOME / "ansible_collections" / "livebackup" / "qemu"
PYTHON = "3.11"


def listed(folder: pathlib.Path) -> set[pathlib.Path]:
    """The files of ``folder`` that git tracks or would track, as relative paths."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    paths = {pathlib.Path(name) for name in names.split("\0") if name}
    return {path for path in paths if (folder / path).is_file()}


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether ``other`` exists and holds what ``one`` holds."""
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def copy_files() -> None:
    """Make COPY hold exactly the files of the checkout; what is right already is left alone."""
    COPY.mkdir(parents=True, exist_ok=True)
    if not (COPY / ".git").exists():
        subprocess.run(["git", "init", "--quiet"], cwd=COPY, check=True)
    wanted = listed(ROOT)
    for path in listed(COPY) - wanted:
        (COPY / path).unlink()
    for path in wanted:
        if not same(ROOT / path, COPY / path):
            (COPY / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, COPY / path)


def place_get_pip() -> None:
    """Put the stand-in where ansible-test looks before it asks the network."""
    version = get_pip.PIP.removeprefix("pip==").replace(".", "_")
    cached = HOME / ".ansible" / "test" / "cache" / f"get_pip_{version}.py"
    cached.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(get_pip.__file__, cached)


def main() -> int:
    """Copy, then run; further arguments go to ansible-test."""
    copy_files()
    place_get_pip()
    environment = {**os.environ, "HOME": str(HOME)}
    command = ["ansible-test", "sanity", "--local", "--python", PYTHON, "--color", "no", *sys.argv[1:]]
    return subprocess.run(command, cwd=COPY, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
