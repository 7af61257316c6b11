# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `livebackup-receiver`; the only place where an error becomes an exit code."""

from __future__ import annotations

import sys

from livebackup_receiver import errors


def main() -> None:
    """Run the command line; end with the exit code of the error's class."""
    from livebackup_receiver.cli import app

    try:
        app()
    except errors.ReceiverError as error:
        print(f"livebackup-receiver: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
