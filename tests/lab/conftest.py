# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real lab for these tests: three hosts, and the machines of the chain for those that ask for them."""

from __future__ import annotations

from lab.pytest_plugin import guests, lab

__all__ = ["guests", "lab"]
