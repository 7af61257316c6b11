# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a layer is whole: its structure by qemu-img, its bytes by a digest."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from blake3 import blake3

from livebackup_receiver import subprocesses
from livebackup_receiver.errors import LayerDamaged

# qemu-img check: 2 is corruption; 3 is leaked clusters only, which cost space and nothing else.
CHECK_CLEAN, CHECK_CORRUPT, CHECK_LEAKS = 0, 2, 3
CHECK_TIMEOUT_S = 3600.0


async def check_layer(path: Path) -> int:
    """Check the structure of a qcow2 layer that nobody writes to; the number of leaked clusters.

    :raise LayerDamaged: it is corrupt
    :raise CommandFailed: it cannot be opened at all
    """
    argv = ["qemu-img", "check", "-f", "qcow2", "--output=json", str(path)]
    done = await subprocesses.run(
        argv, timeout_s=CHECK_TIMEOUT_S, accept=(CHECK_CLEAN, CHECK_CORRUPT, CHECK_LEAKS)
    )
    report: dict[str, Any] = json.loads(done.stdout)
    corrupt = report.get("corruptions", 0) + report.get("check-errors", 0)
    if corrupt or done.returncode == CHECK_CORRUPT:
        raise LayerDamaged(str(path), f"qemu-img check finds {corrupt} errors")
    return int(report.get("leaks", 0))


async def digest_file(path: Path) -> str:
    """The digest of a file's bytes, as ``blake3:<hex>``."""
    return await asyncio.to_thread(_digest, path)


async def check_digest(path: Path, digest: str) -> None:
    """:raise LayerDamaged: the file's bytes are not those the digest was made of"""
    if await digest_file(path) != digest:
        raise LayerDamaged(str(path), f"its bytes do not match {digest}")


def _digest(path: Path) -> str:
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(path)
    return f"blake3:{hasher.hexdigest()}"
