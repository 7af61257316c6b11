# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m faults enumerate [PATTERN]`: break everything everywhere; status 1 if anything was wrong."""

from __future__ import annotations

import sys

from faults.enumeration import enumerate_all


def main() -> int:
    """Run what the command line asks for."""
    return 1 if enumerate_all(*sys.argv[2:] or [""]) else 0


if __name__ == "__main__":
    sys.exit(main())
