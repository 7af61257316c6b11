# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from livebackup_receiver.browse import appliance
from livebackup_receiver.browse.appliance import FIXED, can_virtualize, make_appliance, require_means
from livebackup_receiver.errors import BrowseUnavailable


async def test_an_appliance_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    made = await make_appliance(tmp_path)
    assert {path.name for path in made.iterdir()} == {"kernel", "initrd", "root", FIXED}
    assert made.parent.stat().st_mode & 0o077 == 0
    before = (made / "root").stat().st_ino
    assert await make_appliance(tmp_path) == made
    assert (made / "root").stat().st_ino == before


async def test_what_another_user_has_put_in_its_place_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "appliance-0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BrowseUnavailable, match="belongs to another user"):
        await make_appliance(tmp_path)


async def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(BrowseUnavailable, match=r"/proc/cache/appliance-0 cannot be made .* browse_cache"):
        await make_appliance(Path("/proc/cache"))


def test_a_missing_kernel_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appliance, "_kernels", lambda: ())
    with pytest.raises(
        BrowseUnavailable, match="no kernel for a throw-away guest in /boot that this user may read; install"
    ):
        require_means()


@pytest.mark.parametrize(
    ("processor", "can"),
    [
        ("flags\t\t: fpu vmx sse", True),
        ("flags : svm", True),
        ("flags : fpu", False),
        ("CPU part : 0xd0c", True),
    ],
)
def test_a_device_alone_is_no_kvm(processor: str, can: bool) -> None:
    assert can_virtualize(processor) is can
