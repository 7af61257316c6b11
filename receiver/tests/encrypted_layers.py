# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted layers as QEMU writes and reads them by itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from livebackup_receiver.chain.blank import write_blank
from livebackup_receiver.chain.image import open_image
from livebackup_receiver.chain.keyring import Keyring

KEY = b"a key of forty bytes, which nobody knows"
OTHER_KEY = b"another key of forty-one bytes, as secret"
RING = Keyring((KEY,), encrypts=True)


def options_of(layer: Path) -> dict[str, Any]:
    """What opens a chain whose encrypted layers have the same key (`blockdev-add`)."""
    with open_image(layer) as image:
        below, locked = image.backing, image.luks is not None
    options: dict[str, Any] = {"driver": "qcow2", "file": {"driver": "file", "filename": str(layer)}}
    if locked:
        options["encrypt"] = {"format": "luks", "key-secret": "key"}
    if below:
        options["backing"] = options_of(layer.with_name(below))
    return options


def qemu(program: str, *words: str, key: bytes = KEY, check: bool = True) -> int:
    """Run a program of QEMU, which knows the key as ``key``; its return code."""
    verb, rest = ((words[0],), words[1:]) if program == "qemu-img" else ((), words)
    secret = ["--object", "secret,id=key,file=/dev/stdin"]
    done = subprocess.run([program, *verb, *secret, *rest], input=key, capture_output=True, check=False)
    assert not check or not done.returncode, done.stderr.decode()
    return done.returncode


def make_layer(directory: Path, number: int, size: int, *commands: str, locked: bool = True) -> Path:
    """A layer over the one before it, after these commands of qemu-io."""
    path = directory / f"p{number}.qcow2"
    create_layer(path, size, f"p{number - 1}.qcow2" if number else None, locked=locked)
    write_io(path, *commands)
    return path


def create_layer(path: Path, size: int, parent: str | None, *, locked: bool) -> None:
    """A layer in which nothing is written yet."""
    if locked:
        write_blank(path, virtual_size=size, parent=parent, area=RING.new_header())
    else:
        backing = ["-u", "-b", parent, "-F", "qcow2"] if parent else []
        qemu("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), str(size))


def make_by_qemu(path: Path, size: int) -> None:
    """An encrypted layer that is QEMU's alone; it gives up now and then, if it cannot measure its speed."""
    kind = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    words = ["create", "-q", "-f", "qcow2", "-o", kind, str(path), str(size)]
    for dummy in range(5):
        if not qemu("qemu-img", *words, check=False):
            return
    qemu("qemu-img", *words)


def write_io(layer: Path, *commands: str) -> None:
    """Run commands of qemu-io on a layer."""
    words = [word for command in commands for word in ("-c", command)]
    if words:
        qemu("qemu-io", "-d", "unmap", *words, f"json:{json.dumps(options_of(layer))}")


def copy_of(layer: Path, copy: Path | None = None) -> Path:
    """What a chain holds, as a raw file that QEMU makes, beside it if nowhere else."""
    copy = copy or layer.with_suffix(".raw")
    qemu("qemu-img", "convert", "-O", "raw", f"json:{json.dumps(options_of(layer))}", str(copy))
    return copy


def reads_as(layer: Path, copy: Path) -> bool:
    """Whether QEMU reads from a chain what a raw file holds."""
    names = [f"json:{json.dumps(options_of(layer))}", f"json:{json.dumps(_raw(copy))}"]
    return qemu("qemu-img", "compare", "-q", "--image-opts", *_quoted(names), check=False) == 0


def _raw(path: Path) -> dict[str, Any]:
    return {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}


def _quoted(names: list[str]) -> list[str]:
    """As ``driver=...`` words, because --image-opts takes no JSON."""
    return [",".join(f"{name}={value}" for name, value in _flat(json.loads(each[5:]))) for each in names]


def _flat(options: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in options.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def is_clean(layer: Path) -> bool:
    """Whether qemu-img check finds nothing at all, not even a leak."""
    options = options_of(layer) | {"backing": None}
    return qemu("qemu-img", "check", "-q", f"json:{json.dumps(options)}", check=False) == 0
