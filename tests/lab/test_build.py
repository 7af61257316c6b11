# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab reads from other programs while it builds."""

from __future__ import annotations

from pathlib import Path

from lab import guest, rootfs
from lab.box import cgroup2_mount


def test_mirrors_are_those_this_machine_uses_for_the_suite() -> None:
    targets = (
        "http://mirror.example/debian bookworm main\n"
        "http://mirror.example/debian bookworm main\n"
        "http://mirror.example/debian-security bookworm-security main\n"
        "http://mirror.example/other nodistro main\n"
    )
    assert rootfs.select_mirrors(targets) == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian-security bookworm-security main",
    ]


def test_a_machine_of_another_suite_uses_the_default_mirror() -> None:
    assert rootfs.select_mirrors("http://mirror.example/debian trixie main\n") == []


def test_libraries_are_read_from_what_the_loader_says() -> None:
    listing = (
        "\tlinux-vdso.so.1 (0x00007ffe)\n"
        "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n"
    )
    assert guest.parse_libraries(listing) == [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
    ]


def test_the_cgroup2_tree_is_found_on_unified_and_hybrid_machines() -> None:
    unified = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
    hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert cgroup2_mount(unified) == Path("/sys/fs/cgroup")
    assert cgroup2_mount(hybrid) == Path("/sys/fs/cgroup/unified")
