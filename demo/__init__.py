# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration: the whole main job on real parts, each claim proven as it is made."""
