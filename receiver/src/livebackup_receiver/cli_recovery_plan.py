# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about recovery plans. They ask the running receiver, and work without one as well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from livebackup_receiver import cli_views, config
from livebackup_receiver.cli_options import AsJson, ConfigFile
from livebackup_receiver.errors import RecoveryPlanInvalid
from livebackup_receiver.recovery.access import open_plans
from livebackup_receiver.recovery.declared import DeclaredPlan, read_plan
from livebackup_receiver.recovery.order import stages
from livebackup_receiver.recovery.plan import RecoveryPlan

plan_app = typer.Typer(no_args_is_help=True, help="Declare how the VMs of a group are brought up.")

GroupName = Annotated[str, typer.Argument(help="Name of the group.")]


@plan_app.command("set")
def declare(
    group: GroupName,
    file: Annotated[Path, typer.Argument(help="YAML or JSON file of the plan; - for standard input.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Declare how a group is brought up, in place of what was declared for it."""
    plan = read_plan(_read_file(file))
    with open_plans(config.load(config_file)) as plans:
        declared = plans.declare(group, plan)
    _show(declared, as_json)


@plan_app.command("show")
def show(group: GroupName, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the plan of a group, and in which order its VMs are brought up."""
    with open_plans(config.load(config_file)) as plans:
        declared = plans.show(group)
    _show(declared, as_json)


@plan_app.command("unset")
def withdraw(group: GroupName, config_file: ConfigFile = None) -> None:
    """Leave a group without a plan; all its VMs are brought up at once then."""
    with open_plans(config.load(config_file)) as plans:
        plans.withdraw(group)


def _read_file(file: Path) -> Any:
    """What a file says; JSON is YAML, too.

    :raise RecoveryPlanInvalid: it cannot be read
    """
    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
        return yaml.safe_load(text)
    except OSError as error:
        raise RecoveryPlanInvalid(str(file), f"it cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecoveryPlanInvalid(str(file), f"it is not YAML ({' '.join(str(error).split())})") from None


def _show(declared: DeclaredPlan, as_json: bool) -> None:
    cli_views.show(_words(declared.plan), declared.model_dump(mode="json"), as_json)


def _words(plan: RecoveryPlan) -> str:
    """The plan as YAML without its defaults, then the order that comes of it."""
    content = yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    order = [", ".join(stage) for stage in stages(plan, [each.vm for each in plan.members])]
    return f"{content}# brought up: {', then '.join(order) or 'all at once'}"
