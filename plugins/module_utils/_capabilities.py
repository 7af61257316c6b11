# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a QEMU can do, from ``query-qmp-schema`` and never from its version. For internal use only."""

from __future__ import annotations

from typing import Any

# capability -> (block driver, member of its blockdev-add options)
DRIVER_FEATURES = {
    "copy-before-write": ("copy-before-write", "file"),
    "copy-before-write-bitmap": ("copy-before-write", "bitmap"),
    "on-cbw-error": ("copy-before-write", "on-cbw-error"),
    "cbw-timeout": ("copy-before-write", "cbw-timeout"),
    "snapshot-access": ("snapshot-access", "file"),
    "nbd-tls": ("nbd", "tls-creds"),
    "nbd-open-timeout": ("nbd", "open-timeout"),
}
COMMANDS = ("blockdev-backup", "transaction", "yank", "x-debug-query-block-graph", "query-fdsets")
# only a resync needs them
PASSING = ("add-fd", "getfd")
REQUIRED = frozenset(DRIVER_FEATURES) | frozenset(COMMANDS)


def capabilities_of(schema: list[dict[str, Any]]) -> frozenset[str]:
    """The names of DRIVER_FEATURES, COMMANDS and PASSING this schema offers."""
    by_name = {entry["name"]: entry for entry in schema}
    drivers = {
        variant["case"]: {member["name"] for member in by_name[variant["type"]].get("members", [])}
        for variant in by_name[by_name["blockdev-add"]["arg-type"]]["variants"]
    }
    found = {
        name for name, (driver, member) in DRIVER_FEATURES.items() if member in drivers.get(driver, set())
    }
    return frozenset(found | {command for command in (*COMMANDS, *PASSING) if command in by_name})
