# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about rehearsals."""

from __future__ import annotations

import typer

from livebackup_receiver.cli_recovery_plan import plan_app

rehearse_app = typer.Typer(no_args_is_help=True, help="Boot restore points to see that they can be restored.")
rehearse_app.add_typer(plan_app, name="plan")
