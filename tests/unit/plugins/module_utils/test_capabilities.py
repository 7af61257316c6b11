# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a QEMU can do, from its schema."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.livebackup.qemu.plugins.module_utils import _capabilities


def test_qemu_7_2_can_do_all_that_is_required(qemu_replies: dict[str, Any]) -> None:
    assert _capabilities.capabilities_of(qemu_replies["query-qmp-schema"]) == _capabilities.REQUIRED


def test_a_missing_driver_member_and_command_are_noticed(qemu_replies: dict[str, Any]) -> None:
    schema = copy.deepcopy(qemu_replies["query-qmp-schema"])
    (drivers,) = [entry for entry in schema if "variants" in entry and entry.get("tag") == "driver"]
    drivers["variants"] = [each for each in drivers["variants"] if each["case"] != "snapshot-access"]
    for entry in schema:
        members = entry.get("members", [])
        entry["members"] = [each for each in members if each["name"] != "on-cbw-error"]
    schema = [entry for entry in schema if entry["name"] != "yank"]
    missing = _capabilities.REQUIRED - _capabilities.capabilities_of(schema)
    assert missing == {"snapshot-access", "on-cbw-error", "yank"}
