# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receiver of Livebackup: coordinates group backups and keeps their restore points."""

from __future__ import annotations

__version__ = "0.1.0"

API_VERSION = 1
