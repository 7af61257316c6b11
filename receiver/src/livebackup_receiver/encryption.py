# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files with the keys of encrypted layers, read once when a process starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from livebackup_receiver.chain.keyring import Keyring
from livebackup_receiver.config import Config
from livebackup_receiver.errors import ConfigInvalid

OPTION = "encryption_keys"
# So few tries are made slow (LUKS iterations), because so many random bytes are not guessed.
LEAST_BYTES = 32
MAKE_ONE = "make one with `(umask 077; head -c 48 /dev/urandom | base64 -w 0 > FILE)`"


def read_keys(config: Config) -> Keyring:
    """What opens the layers of a store, and encrypts new ones if that is wanted.

    :raise ConfigInvalid: a file cannot be read, holds no key, lies in the store, or everybody may read it
    """
    keys = [_read(path, config) for path in config.encryption_keys]
    return Keyring(keys, encrypts=config.encryption == "luks")


def _read(path: Path, config: Config) -> bytes:
    _require_apart(path, config)
    try:
        with path.open("rb") as file:
            mode, key = os.fstat(file.fileno()).st_mode, file.read()
    except OSError as error:
        problem = f"the key file {path} cannot be read ({error.strerror})"
        raise ConfigInvalid(OPTION, problem, "name a file that the receiver's user can read") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigInvalid(OPTION, f"everybody may open the key file {path}", f"run `chmod o= {path}`")
    _require_key(path, key)
    return key


def _require_apart(path: Path, config: Config) -> None:
    """Whoever gets at a disk of the store must not find the key on it."""
    for volume in (config.store, *config.volumes):
        if path.resolve().is_relative_to(volume.resolve()):
            problem = f"the key file {path} lies in {volume}, beside the data"
            raise ConfigInvalid(OPTION, problem, "keep it on another disk, or hand it over at each start")


def _require_key(path: Path, key: bytes) -> None:
    if len(key) < LEAST_BYTES:
        raise ConfigInvalid(OPTION, f"the key in {path} is shorter than {LEAST_BYTES} bytes", MAKE_ONE)
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        problem = f"the key in {path} is no text, which QEMU wants it to be"
        raise ConfigInvalid(OPTION, problem, MAKE_ONE) from None
