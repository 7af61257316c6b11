# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker takes from itself before it opens a disk, and so from QEMU, which it starts.

Landlock (landlock(7), Linux 5.13) needs no privilege: files elsewhere than in the directories that are named
cannot be opened any more, the store least of all. A kernel without it leaves the limits.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Mapping
from pathlib import Path

NR_CREATE_RULESET, NR_ADD_RULE, NR_RESTRICT_SELF = 444, 445, 446
VERSION_FLAG, RULE_PATH_BENEATH, PR_SET_NO_NEW_PRIVS = 1, 1, 38
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_SOCK = (1 << bit for bit in (4, 5, 7, 9))
LOOK = EXECUTE | READ_FILE | READ_DIR
# As root, libguestfs makes its sockets in /tmp whatever it is told.
SOCKETS = {"/tmp": MAKE_DIR | MAKE_SOCK | REMOVE_DIR | REMOVE_FILE}
# All that ABI 1 knows: reading, writing, making and removing.
EVERYTHING = (1 << 13) - 1
# Moving between directories (ABI 2) and truncating (ABI 3), which must be allowed as soon as they are known.
REFER, TRUNCATE = 1 << 13, 1 << 14
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE

SYSTEM = {f"/{name}": LOOK for name in ("usr", "lib", "lib64", "bin", "sbin", "etc", "proc")}
DEVICES = {f"/dev/{name}": READ_FILE | WRITE_FILE for name in ("null", "zero", "urandom", "random", "kvm")}
# The root file system of the appliance is a sparse file of 4 GiB, of which a copy may be written.
FILE_BYTES = 5 << 30
OPEN_FILES = 1024


def limit_resources() -> None:
    """No file longer than an appliance needs, few of them, and no core dump with a guest's secrets."""
    for what, most in (
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))


def close_in(*, readable: Path, writable: Path) -> bool:
    """Leave this process and its children the system's programs and these two directories.

    :return: whether the kernel can do that
    :raise OSError: it can, and refuses
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(NR_CREATE_RULESET, None, 0, VERSION_FLAG)
    if version < 1:
        return False
    handled = EVERYTHING | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    ours = {str(readable): LOOK, str(writable): handled & ~EXECUTE}
    ruleset = _checked(libc.syscall(NR_CREATE_RULESET, struct.pack("Q", handled), 8, 0))
    _allow(libc, ruleset, SYSTEM | DEVICES | ours | ({} if os.getuid() else SOCKETS), handled)
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(NR_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, rights: Mapping[str, int], handled: int) -> None:
    for path, right in rights.items():
        if not os.path.exists(path):
            continue
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = right & handled & (-1 if os.path.isdir(path) else OF_FILES)
        rule = struct.pack("=Qi", allowed, descriptor)
        _checked(libc.syscall(NR_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0))
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
