# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points are kept, by which rule, and what will exist on any date.

All of that is decided without any I/O. Only ``act`` reads a catalog and drops points; ``local``, ``remote``,
``access`` and ``rounds`` are the ways to it.
"""
