# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What check mode foresees, and options that contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _backup, _names
from ansible_collections.livebackup.qemu.plugins.module_utils._discovery import Discovery
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import OptionError, VmUnknown
from ansible_collections.livebackup.qemu.plugins.module_utils._vm import Bitmap

PARAMS = {
    "session": "S",
    "host": None,
    "scratch_dir": "/scratch",
    "cut_hook": None,
    "cut_hook_timeout": 2.0,
    "quiesce": None,
    "guest_hooks": None,
    "host_speed": 0,
    "cbw_timeout": 2,
    "speed": 0,
    "stall_limit": 20.0,
    "vms": None,
    "qmp_sockets": ["/run/qemu/*.qmp"],
}


def test_levels_follow_the_verdict(make_vm: Any, make_disk: Any, points: Any) -> None:
    checkpoint = Bitmap("disk-a", f"livebackup:{points[0]}", dirty_bytes=4096)
    tracked = make_disk(Bitmap("disk-a", _names.MARKER), checkpoint)
    fresh = make_disk(Bitmap("disk-b", _names.MARKER), name="vd-b", node="disk-b")
    untracked = make_disk(name="vd-c", node="disk-c")
    verdict = {"vd-a": {"keep": points[0], "remove": []}, "vd-b": {"keep": None, "remove": []}}
    disks = _backup.foreseen(make_vm(tracked, fresh, untracked), verdict)["disks"]
    assert [(disk["disk"], disk["level"], disk["dirty_bytes"]) for disk in disks] == [
        ("vd-a", "incremental", 4096),
        ("vd-b", "full", 1 << 30),
    ]
    assert [disk["parent"] for disk in disks] == [points[0], None]


def test_the_host_is_called_as_it_calls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "hv7")
    assert _backup.settings_of(PARAMS).host == "hv7"
    assert _backup.settings_of({**PARAMS, "host": "hv1"}).host == "hv1"


@pytest.mark.parametrize("speed", [1, (1 << 20) - 1])
def test_too_slow(speed: int) -> None:
    with pytest.raises(OptionError, match="at least 1048576 bytes per second, or 0"):
        _backup.settings_of({**PARAMS, "speed": speed})


def test_the_hook_is_split_like_a_shell_would() -> None:
    assert _backup.settings_of(PARAMS).cut_hook == ()
    assert _backup.settings_of({**PARAMS, "cut_hook": "snap 'a b'"}).cut_hook == ("snap", "a b")
    with pytest.raises(OptionError, match="No closing quotation; correct its quotes"):
        _backup.settings_of({**PARAMS, "cut_hook": "snap 'a"})


def test_a_host_without_vms() -> None:
    with pytest.raises(VmUnknown, match=r"No VM runs here: no QEMU listens on /run/qemu/\*\.qmp"):
        _backup.chosen(PARAMS, Discovery())
