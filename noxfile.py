# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs of the Makefile as nox sessions, for those who like nox better; the commands stand there only."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "test-unit", "test-receiver"]

VERBS = (
    "docs",
    "lint",
    "molecule",
    "sanity",
    "test",
    "test-integration",
    "test-lab",
    "test-qemu",
    "test-receiver",
    "test-unit",
)


def make(verb: str) -> None:
    """Register one session that calls make with the same verb; further arguments go to pytest."""

    @nox.session(name=verb)
    def run(session: nox.Session) -> None:
        session.run("make", verb, f"PYTEST_ARGS={' '.join(session.posargs)}", external=True)


for name in VERBS:
    make(name)
