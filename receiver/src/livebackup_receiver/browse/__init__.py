# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking into the disks of a point: file systems, directories, files; nothing of it is mounted on this host.

A throw-away guest (libguestfs' appliance) opens the disks. ``guest`` is this process's side of it, ``worker``
the child process that holds it, ``opening`` starts one, ``live`` keeps some of them open for a while.
"""
