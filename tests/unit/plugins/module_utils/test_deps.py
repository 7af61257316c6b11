# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The libraries that a restore needs, and what is said without them."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _deps
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import DependencyError


def test_libnbd_is_the_distributions_and_nothing_else_comes_from_there() -> None:
    before = list(sys.path)
    assert _deps.libnbd().NBD
    assert _deps.blake3()(b"").digest()
    assert sys.path == before
    _deps.require_restore()


@pytest.mark.parametrize("missing", ["libnbd", "blake3"])
def test_what_is_missing_is_named_with_the_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deps, missing, lambda: None)
    monkeypatch.setattr(_deps, "VENV_PYTHON", "/none")
    with pytest.raises(DependencyError) as caught:
        _deps.require_restore()
    assert f"The Python library {missing}, by which a restore" in caught.value.message
    assert "apply the role livebackup.qemu.hypervisor" in caught.value.message


def test_the_environment_of_the_role_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Respawned(Exception):
        pass

    def respawn(interpreter: str) -> None:
        raise Respawned(interpreter)

    monkeypatch.setattr(_deps, "blake3", lambda: None)
    monkeypatch.setattr(_deps, "VENV_PYTHON", sys.executable)
    monkeypatch.setattr(_deps, "has_respawned", lambda: False)
    monkeypatch.setattr(_deps, "respawn_module", respawn)
    with pytest.raises(Respawned, match=sys.executable):
        _deps.require_restore()
