# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for the get-pip script that ansible-test downloads for each virtual environment it makes.

ansible-test looks for it in its cache before it asks the network. This one installs the same pip from
the package index, by means of the wheel that Python itself carries, so sanity needs nothing else.
"""

from __future__ import annotations

import ensurepip
import pathlib
import sys

PIP = "pip==24.2"
UNKNOWN_TO_PIP = ("--no-setuptools", "--no-wheel")


def bundled_wheel() -> pathlib.Path:
    """The pip wheel inside ensurepip, or the one Debian keeps beside it."""
    folders = [pathlib.Path(ensurepip.__file__).parent / "_bundled", pathlib.Path("/usr/share/python-wheels")]
    return next(wheel for folder in folders for wheel in folder.glob("pip-*.whl"))


def arguments(given: list[str]) -> list[str]:
    """What ansible-test asks for, as arguments of ``pip install``."""
    kept = [word for word in given if word not in UNKNOWN_TO_PIP]
    return kept if any(word.startswith("pip==") for word in kept) else [*kept, PIP]


def main() -> int:
    """Install pip into the environment of the running interpreter."""
    sys.path.insert(0, str(bundled_wheel()))
    from pip._internal.cli.main import main as pip_main  # the path is only known now

    return pip_main(["install", *arguments(sys.argv[1:])])


if __name__ == "__main__":
    sys.exit(main())
