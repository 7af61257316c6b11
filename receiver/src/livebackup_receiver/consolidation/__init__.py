# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How space comes back after points are dropped, and how chains stay short.

``plan`` decides, from data alone, what is removed, merged and punched; ``act`` does one such step so that a
kill at any instant loses nothing; ``recovery`` finishes what a kill interrupted; ``worker`` goes through
the disks.
"""
