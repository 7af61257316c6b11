# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a storage daemon gets the keys of encrypted layers, and is told which layer needs which.

A key goes through a file in memory that only the daemon inherits: not on the command line, where every user
of the machine could read it, and not in a message, which may be logged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livebackup_receiver.chain.image import open_image
from livebackup_receiver.chain.keyring import current
from livebackup_receiver.chain.preamble import backing_name
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported

NodeOptions = dict[str, Any]
"""Of ``blockdev-add`` (QAPI ``BlockdevOptionsQcow2``)."""


@dataclass
class KeyObjects:
    """Command line and descriptors of a daemon that can open what this process can."""

    options: list[str] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


@contextmanager
def key_objects() -> Iterator[KeyObjects]:
    """The keys of this process for a daemon that is started within the block (QAPI ``secret``)."""
    objects = KeyObjects()
    with ExitStack() as stack:
        for number, key in enumerate(current().keys):
            descriptor = os.memfd_create("livebackup-key")
            stack.callback(os.close, descriptor)
            os.write(descriptor, key)
            secret = {"qom-type": "secret", "id": _id(number), "file": f"/proc/self/fd/{descriptor}"}
            objects.options += ["--object", json.dumps(secret)]
            objects.descriptors.append(descriptor)
        yield objects


def encryption_of_new() -> NodeOptions:
    """What opens a layer that was made by this process."""
    return _encryption(0) if current().encrypts else {}


def encryption_of(layer: Path) -> NodeOptions:
    """What opens a sealed layer with all that lies below it; nothing if all of it is plain.

    QEMU opens a chain of plain layers by itself; an encrypted one must be told of at its place.

    :raise KeyMissing: a layer is encrypted, and its key was not given
    :raise LayerDamaged: a layer is no sound image, or lies below itself
    """
    chain = list(_walk(layer))
    if not any(encryption for dummy, encryption in chain):
        return {}
    options: NodeOptions = {}
    for path, encryption in reversed(chain):
        file = {"driver": "file", "filename": str(path)}
        options = {"driver": "qcow2", "read-only": True, "file": file} | encryption | _over(options)
    return {name: options[name] for name in ("encrypt", "backing") if name in options}


def _over(below: NodeOptions) -> NodeOptions:
    return {"backing": below} if below else {}


def _walk(layer: Path) -> Iterator[tuple[Path, NodeOptions]]:
    seen: set[Path] = set()
    path: Path | None = layer
    while path is not None:
        if path in seen:
            raise LayerDamaged(str(path), "it lies below itself")
        seen.add(path)
        below, encryption = _look(path, prove=path == layer)
        yield path, encryption
        path = path.with_name(below) if below else None


def _look(path: Path, *, prove: bool) -> tuple[str | None, NodeOptions]:
    """The name of a layer's parent, and what opens the layer.

    Which of several keys that is takes a hundredth of a second to find out; of chains of fifty layers, and
    hundreds of them, it is not found out again that the only one does.
    """
    keyring = current()
    try:
        with open_image(path) as image:
            if image.luks is None:
                return image.backing, {}
            if not prove and len(keyring.keys) == 1:
                return image.backing, _encryption(0)
            return image.backing, _encryption(keyring.open(path, image.descriptor, image.luks).key)
    except LayerUnsupported:
        return backing_name(path), {}


def _encryption(number: int) -> NodeOptions:
    return {"encrypt": {"format": "luks", "key-secret": _id(number)}}


def _id(number: int) -> str:
    return f"key-{number}"
