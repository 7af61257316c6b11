# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of options that are none, and what was probably meant; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from livebackup_receiver.errors import ConfigInvalid


def refuse_unknown(name: str, *, known: list[str]) -> None:
    """:raise ConfigInvalid: it is no option"""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "see the list with `livebackup-receiver show-config`"
        raise ConfigInvalid(name, "there is no such option", hint)


def refuse_misspelt(environment: Iterable[str], *, known: list[str], prefix: str) -> None:
    """Refuse variables that are nearly an option's; others with the prefix belong to other programs.

    :raise ConfigInvalid: there is one
    """
    for variable in environment:
        name = variable.removeprefix(prefix).lower()
        if variable.startswith(prefix) and name not in known:
            for near in difflib.get_close_matches(name, known, n=1, cutoff=0.8):
                hint = f"did you mean {prefix}{near.upper()}?"
                raise ConfigInvalid(variable, "there is no such option", hint)
