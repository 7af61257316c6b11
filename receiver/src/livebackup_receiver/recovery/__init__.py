# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the VMs of a group are brought up: what people declare, and the order that comes of it.

``plan`` and ``order`` are pure; a rehearsal and a restore of a group go by the same plan.
"""
