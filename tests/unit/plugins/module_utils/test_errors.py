# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Codes are what playbooks decide by."""

from __future__ import annotations

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _errors
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import LivebackupError


def every(kind: type[LivebackupError]) -> list[type[LivebackupError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in every(below))]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in every(LivebackupError) if kind.__name__ != "ReceiverRefused"]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", every(LivebackupError))
def test_the_tree_is_drawn(kind: type[LivebackupError]) -> None:
    assert kind.__name__ in (_errors.__doc__ or "")


def test_details() -> None:
    assert _errors.SocketBusy("busy", socket="/run/x").details() == {
        "code": "qmp-socket-busy",
        "socket": "/run/x",
    }
