# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the structure of a layer is whole, by qemu-img; its bytes are for ``store.verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
