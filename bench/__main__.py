# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench SECTION`: run one section, write bench/out/SECTION.json, print the same as a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import typer
from rich.console import Console

from bench import coordination, cut, impact, ingest, restore, resync, store
from bench.report import Report

SECTIONS: dict[str, Callable[[], Report]] = {
    "ingest": ingest.run,
    "coordination": coordination.run,
    "cut": cut.run,
    "impact": impact.run,
    "resync": resync.run,
    "store": store.run,
    **{f"store-{part}": partial(store.run_part, part) for part in store.PARTS},
    "restore": restore.run,
    **{f"restore-{part}": partial(restore.run_part, part) for part in restore.PARTS},
}


def main(section: str = typer.Argument(help=f"One of: {', '.join(SECTIONS)}")) -> None:
    if section not in SECTIONS:
        raise typer.BadParameter(f"no section {section!r}; there is {', '.join(SECTIONS)}")
    report = SECTIONS[section]()
    path = report.write()
    console = Console(width=120)
    report.show(console)
    console.print(f"written: {path}")


if __name__ == "__main__":
    typer.run(main)
