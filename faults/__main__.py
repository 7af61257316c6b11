# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m faults enumerate [PATTERN] | torture SEED ROUNDS | page`; status 1 if anything was wrong."""

from __future__ import annotations

import sys

from faults import isolation, outcomes
from faults.enumeration import enumerate_all
from faults.torture import torture


def main() -> int:
    """Run what the command line asks for."""
    verb, *arguments = sys.argv[1:]
    if verb == "page":
        outcomes.PAGE.write_text(outcomes.page())
        return 0
    if verb == "enumerate":
        return 1 if enumerate_all(*arguments or [""]) else 0
    isolation.enter()
    return 1 if torture(*map(int, arguments)) else 0


if __name__ == "__main__":
    sys.exit(main())
