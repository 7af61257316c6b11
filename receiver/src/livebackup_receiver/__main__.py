# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `livebackup-receiver`; the only place where an error becomes an exit code."""

from __future__ import annotations

import sys
import traceback

from livebackup_receiver import errors

# EX_SOFTWARE of sysexits.h: 1 and 2 are answers, such as that of a rehearsal which has failed.
INTERNAL = 70


def main() -> None:
    """Run the command line; end with the exit code of the error's class, or with INTERNAL."""
    from livebackup_receiver.cli import app

    try:
        app()
    except errors.ReceiverError as error:
        print(f"livebackup-receiver: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        sys.exit(INTERNAL)


if __name__ == "__main__":
    main()
