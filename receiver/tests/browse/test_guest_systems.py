# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operating system on several disks with LVM, and NTFS; a guest that hangs, on encrypted layers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import guest_disks
import pytest
from encrypted_layers import RING
from sample_store import SampleStore, run

from livebackup_receiver import subprocesses
from livebackup_receiver.browse.guest import Guest, Limits
from livebackup_receiver.browse.opening import open_guest
from livebackup_receiver.chain.keyring import using
from livebackup_receiver.config import Config
from livebackup_receiver.errors import BrowseFailed
from livebackup_receiver.exports import Wanted, find_wanted
from livebackup_receiver.store.paths import Store

pytestmark = pytest.mark.timeout(900)

# Two disks: an MBR with the root file system and a physical volume, and one more volume of the same group.
SYSTEM = """
sparse {0} 160M
sparse {1} 64M
run
part-init /dev/sda mbr
part-add /dev/sda p 2048 131071
part-add /dev/sda p 131072 262143
part-add /dev/sda p 262144 -1
mkfs ext4 /dev/sda1 label:root
pvcreate /dev/sda2
pvcreate /dev/sdb
vgcreate vg0 "/dev/sda2 /dev/sdb"
lvcreate data vg0 100
mkfs ext4 /dev/vg0/data
mkfs ntfs /dev/sda3
mount /dev/vg0/data /
write /on-both-disks data
umount /
mount /dev/sda3 /
write /invoice.txt money
umount /
mount /dev/sda1 /
mkdir /etc
mkdir /bin
mkdir /usr
mkdir /srv
touch /bin/sh
write /etc/os-release "ID=debian\\nVERSION_ID=12\\nPRETTY_NAME=Debian\\n"
write /etc/debian_version "12.1\\n"
write /etc/fstab "/dev/sda1 / ext4 defaults 0 1\\n/dev/vg0/data /srv ext4 defaults 0 2\\n"
"""


def wanted_of(store: SampleStore, config: Config, images: dict[str, Path]) -> Wanted:
    point = guest_disks.add_disks(store, images)
    return find_wanted(store.catalog, Store(config.store), point.id, "db", accept_damage=False)


async def content(guest: Guest, file_system: str, path: str) -> bytes:
    async with guest.content(file_system, path) as parts:
        return b"".join([part async for part in parts])


async def test_a_system_is_seen_as_it_sees_itself(store: SampleStore, config: Config, tmp_path: Path) -> None:
    images = {"vd-a": tmp_path / "first", "vd-b": tmp_path / "second"}
    script = tmp_path / "system.guestfish"
    script.write_text(SYSTEM.format(*images.values()))
    await asyncio.to_thread(make, script)
    async with open_guest(wanted_of(store, config, images), config) as guest:
        found = {each.name: (each.type, each.label, each.disk) for each in guest.file_systems}
        assert found["sda1"] == ("ext4", "root", "vd-a")
        assert found["sda3"] == ("ntfs", "", "vd-a")
        assert found["vg0/data"] == ("ext4", "", None)
        assert await content(guest, "vg0/data", "/on-both-disks") == b"data"
        assert await content(guest, "sda3", "/invoice.txt") == b"money"
        assert await content(guest, "guest", "/srv/on-both-disks") == b"data"
        assert (await content(guest, "guest", "/etc/fstab")).startswith(b"/dev/sda1 / ext4")
        assert (await guest.list("sda1", "/srv", offset=0, limit=9)).entries == []


def make(script: Path) -> None:
    run("env", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg", "guestfish", "-f", str(script), timeout_s=400)


async def test_a_guest_that_hangs_is_given_up(store: SampleStore, config: Config, tmp_path: Path) -> None:
    store.locked = True
    tree = guest_disks.make_tree(tmp_path / "tree")
    images = {"vd-a": guest_disks.ext4(tmp_path / "image", tree)}
    with using(RING):
        async with open_guest(wanted_of(store, config, images), config, Limits(answer_s=20.0)) as guest:
            assert await content(guest, "sda", "/etc/hosts") == b"127.0.0.1 localhost\n"
            family = await session_of(guest.pid)
            with pytest.raises(BrowseFailed, match=r"has ended: it did not answer for 20 seconds; try again"):
                await stop_in_the_middle(guest)
            with pytest.raises(BrowseFailed, match="20 seconds"):
                await guest.look("sda", "/")
            assert len(family) > 1
            async with asyncio.timeout(60):
                while await session_of(guest.pid):  # noqa: ASYNC110 - nobody tells when the kernel has done it
                    await asyncio.sleep(0.05)


async def stop_in_the_middle(guest: Guest) -> None:
    async with guest.content("sda", "/etc/random") as parts:
        os.kill(guest.pid, signal.SIGSTOP)
        async for dummy in parts:
            pass


async def session_of(leader: int) -> list[str]:
    """The processes of a guest."""
    found = await subprocesses.run(["ps", "-s", str(leader), "-o", "stat="], timeout_s=20, accept=(0, 1))
    return [state for state in found.stdout.split() if not state.startswith("Z")]
