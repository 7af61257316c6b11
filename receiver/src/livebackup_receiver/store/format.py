# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the store's format, in ``<store>/format.json``: none works on a version it does not know.

Stores of before there was this file are of version 1 as well.
"""

from __future__ import annotations

import json
from typing import Any

from livebackup_receiver.errors import StoreFailed, StoreUnsupported
from livebackup_receiver.store import durable
from livebackup_receiver.store.paths import Store

NAME = "livebackup-store"
VERSION = 1


def ensure_format(store: Store) -> None:
    """See that the store is of this version's format, and say so in it if nothing does.

    :raise StoreUnsupported: it is not
    """
    if not check_format(store):
        content = json.dumps({"format": NAME, "version": VERSION})
        durable.write_file(store.format, (content + "\n").encode())


def require_present(store: Store) -> None:
    """See that the store's file system is still there: an empty directory is left where it was mounted.

    :raise StoreFailed: it is not
    """
    if not store.format.is_file():
        raise StoreFailed(str(store.root), "it is not there any more; is its file system mounted?")


def check_format(store: Store) -> bool:
    """Whether the store says that it is of this version's format; nothing is written.

    :raise StoreUnsupported: it says something else, or cannot be read
    """
    try:
        found = json.loads(store.format.read_bytes())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreUnsupported(
            str(store.root), f"its format.json cannot be read ({error.strerror})"
        ) from None
    except ValueError:
        raise StoreUnsupported(str(store.root), "its format.json is not JSON") from None
    if problem := _problem(found):
        raise StoreUnsupported(str(store.root), problem)
    return True


def _problem(found: Any) -> str | None:
    if not isinstance(found, dict) or found.get("format") != NAME or not _is_version(found.get("version")):
        return "its format.json does not say which version it has"
    if found["version"] > VERSION:
        return f"it has version {found['version']} of its format, and this receiver knows up to {VERSION}"
    return None


def _is_version(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found > 0
