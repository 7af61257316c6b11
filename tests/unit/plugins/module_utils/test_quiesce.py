# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import OptionError
from ansible_collections.livebackup.qemu.plugins.module_utils._quiesce import from_options

HOOKS = {"freeze": ["/sbin/database", "hold"], "thaw": ["/sbin/database", "go"]}


@pytest.mark.parametrize(
    ("vm", "consistency", "mode"),
    [
        ("web", "crash", "none"),
        ("web", "filesystem", "require"),
        ("app", "crash", "try"),
        ("app", "filesystem", "try"),
        ("db", "crash", "require"),
    ],
)
def test_the_mode_of_a_vm(vm: str, consistency: str, mode: str) -> None:
    assert from_options({"app": "try"}, {"db": HOOKS}).mode(vm, consistency) == mode


@pytest.mark.parametrize(
    ("quiesce", "hooks", "message"),
    [
        ({"db": "maybe"}, None, "quiesce of VM db is maybe; give one of none, try, require."),
        ({"db": "none"}, {"db": HOOKS}, "they would never run"),
        (None, {"db": {"freeze": ["/sbin/database"]}}, "must be freeze and thaw"),
        (None, {"db": {**HOOKS, "thaw": "/sbin/database go"}}, "must be freeze and thaw"),
        (None, {"db": {**HOOKS, "thaw": []}}, "must be freeze and thaw"),
        (None, {"db": HOOKS["freeze"]}, "must be freeze and thaw"),
    ],
)
def test_options_that_mean_nothing(quiesce: Any, hooks: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        from_options(quiesce, hooks)
