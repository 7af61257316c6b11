# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab on one machine: several hosts, a network to break, and guests that notice an inconsistent backup."""
