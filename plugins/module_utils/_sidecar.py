# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a restored file, kept beside it as ``<file>.livebackup.json``. For internal use only.

Size and modification time show whether anybody has written to the file since it was restored, which is much
cheaper than comparing contents over the network.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _images

SUFFIX = ".livebackup.json"


def origin(*, point: str, vm: str, disk: str, image_format: str, tracked: bool) -> dict[str, Any]:
    """What a restored file holds."""
    return {"point": point, "vm": vm, "disk": disk, "format": image_format, "tracked": tracked}


def write(path: str, contents: dict[str, Any], complete: str | None = None) -> None:
    """Note durably that the file at ``path`` holds ``contents``, or will when ``complete`` gets its name.

    A note that came first is no lie about the file that is there still: that has another size or time.
    """
    temporary = f"{path}{SUFFIX}.partial"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({**contents, **_state(complete or path)}, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path + SUFFIX)
    _images.sync(os.path.dirname(path))


def still_holds(path: str, contents: dict[str, Any]) -> bool:
    """Whether the file at ``path`` was restored with these contents and not written to since."""
    try:
        with open(path + SUFFIX, encoding="utf-8") as file:
            return bool(json.load(file) == {**contents, **_state(path)})
    except (OSError, ValueError):
        return False


def _state(path: str) -> dict[str, int]:
    status = os.stat(path)
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
