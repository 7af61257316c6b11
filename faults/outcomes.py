# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every fault leads to, from ``outcomes.toml``; pure but for reading that file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("outcomes.toml")
HEAD = Path(__file__).with_name("page_head.rst")
PAGE = Path(__file__).parent.parent / "docs/docsite/rst/faults.rst"
AGAIN = "Incremental, from the newest point."


@dataclass(frozen=True)
class Row:
    """One fault as an operator tells it; ``faults`` and ``reason`` are regular expressions."""

    what: str
    outcome: str
    sees: str
    faults: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    reason: str = ""
    next_run: str = AGAIN

    def fits(self, name: str) -> bool:
        """Whether this row is about a combination."""
        return any(re.fullmatch(pattern, name) for pattern in self.faults)

    def complaint(self, outcome: str, reason: str | None) -> str | None:
        """What is wrong with an outcome, if anything is."""
        if outcome not in self.outcome.split(" or "):
            return f"the session was {outcome}, and the page says {self.outcome}"
        if outcome == "aborted" and not re.search(self.reason, reason or ""):
            return f"the session said: {reason}; and the page expects: {self.reason}"
        return None


@cache
def rows() -> tuple[Row, ...]:
    """All rows, in their order."""
    table = tomllib.loads(TABLE.read_text())
    return tuple(Row(**{key: _frozen(value) for key, value in row.items()}) for row in table["row"])


def row_of(name: str) -> Row | None:
    """The row about a combination; None if there is none."""
    return next((row for row in rows() if row.fits(name)), None)


def page() -> str:
    """The page "What happens when ..." in reStructuredText."""
    return HEAD.read_text() + "".join(map(_entry, rows()))


def _entry(row: Row) -> str:
    first, *others = (row.what, row.outcome, row.sees, row.next_run)
    return f"   * - {first}\n" + "".join(f"     - {other}\n" for other in others)


def _frozen(value: Any) -> Any:
    return value if isinstance(value, str) else tuple(value)
