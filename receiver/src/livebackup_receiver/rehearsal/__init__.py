# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Booting restore points, cut off from everything, to see that they can be restored.

``run`` is outside: it serves the point's disks read-only and keeps what was found. ``enclosure`` shuts the
rest in: ``perform`` runs there, with a network of its own, and starts the guests. What both decide is in
pure functions over the recovery plan: ``machine``, ``network``, ``means``.
"""
