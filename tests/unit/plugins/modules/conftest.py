# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules called as ansible calls them, in this process."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

CallModule = Callable[..., dict[str, Any]]


@pytest.fixture
def call_module(capsys: pytest.CaptureFixture[str]) -> CallModule:
    """Run a module's main and return what it printed."""

    def call(name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.livebackup.qemu.plugins.modules.{name}")
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call
