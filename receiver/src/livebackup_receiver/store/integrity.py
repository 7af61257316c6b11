# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the structure of a layer is whole, by qemu-img; its bytes are for ``store.verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from livebackup_receiver import subprocesses
from livebackup_receiver.chain.image import open_image
from livebackup_receiver.chain.keyring import current
from livebackup_receiver.errors import LayerDamaged, LayerUnsupported

# qemu-img check: 2 is corruption; 3 is leaked clusters only, which cost space and nothing else.
CHECK_CLEAN, CHECK_CORRUPT, CHECK_LEAKS = 0, 2, 3
CHECK_TIMEOUT_S = 3600.0


async def check_layer(path: Path) -> int:
    """Check the structure of a qcow2 layer that nobody writes to; the number of leaked clusters.

    :raise LayerDamaged: it is corrupt
    :raise KeyMissing: it is encrypted, and its key was not given
    :raise CommandFailed: it cannot be opened at all
    """
    key = _key_of(path)
    done = await subprocesses.run(
        ["qemu-img", "check", "--output=json", *(_locked(path) if key else ["-f", "qcow2", str(path)])],
        timeout_s=CHECK_TIMEOUT_S,
        stdin=key,
        accept=(CHECK_CLEAN, CHECK_CORRUPT, CHECK_LEAKS),
    )
    report: dict[str, Any] = json.loads(done.stdout)
    corrupt = report.get("corruptions", 0) + report.get("check-errors", 0)
    if corrupt or done.returncode == CHECK_CORRUPT:
        raise LayerDamaged(str(path), f"qemu-img check finds {corrupt} errors")
    return int(report.get("leaks", 0))


def _locked(path: Path) -> list[str]:
    """An encrypted layer alone, whose key comes through standard input."""
    options = {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": str(path)},
        "backing": None,
        "encrypt": {"format": "luks", "key-secret": "key"},
    }
    return ["--object", "secret,id=key,file=/dev/stdin", f"json:{json.dumps(options)}"]


def _key_of(path: Path) -> str | None:
    try:
        with open_image(path) as image:
            if image.luks is None:
                return None
            number = current().open(path, image.descriptor, image.luks).key
    except (LayerDamaged, LayerUnsupported):
        # qemu-img has better words for it.
        return None
    return current().keys[number].decode()
