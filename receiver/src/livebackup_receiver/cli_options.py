# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livebackup_receiver import config

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help=f"Configuration file; {config.DEFAULT_PATH} if not given.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, as the API does.")]
