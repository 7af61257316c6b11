# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery plan with what it is for; pure."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from livebackup_receiver.errors import RecoveryPlanInvalid
from livebackup_receiver.model import Model, Moment
from livebackup_receiver.recovery.plan import RecoveryPlan


class DeclaredPlan(Model):
    """The plan of a group, and since when it is that."""

    group: str
    plan: RecoveryPlan
    changed_at: Moment


def read_plan(content: Any) -> RecoveryPlan:
    """A plan of what JSON or YAML says.

    :raise RecoveryPlanInvalid: it is none
    """
    try:
        return RecoveryPlan.model_validate(content)
    except ValidationError as error:
        raise RecoveryPlanInvalid(*_first_problem(error)) from None


def _first_problem(error: ValidationError) -> tuple[str, str]:
    first = error.errors()[0]
    where = ", ".join(["recovery plan", *filter(None, [".".join(str(part) for part in first["loc"])])])
    if first["type"] == "extra_forbidden":
        return where, "there is no such key"
    return where, first["msg"].removeprefix("Value error, ")
