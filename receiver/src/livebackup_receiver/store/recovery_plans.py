# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery plans of groups, which no layer tells: ``<store>/recovery-plans.json``.

The file is written before the catalog, so a catalog that is made anew from the store keeps what it declared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import ValidationError

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Model
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.store import durable
from livebackup_receiver.store.paths import Store


class PlanFile(Model):
    """The content of the file."""

    format_version: Literal[1] = 1
    plans: list[DeclaredPlan]


def write_plans(store: Store, plans: Iterable[DeclaredPlan]) -> None:
    """Keep the plans durably, in place of all that were."""
    content = PlanFile(plans=list(plans)).model_dump_json(indent=2)
    durable.write_file(store.recovery_plans, (content + "\n").encode())


def read_plans(store: Store) -> list[DeclaredPlan]:
    """The plans; none if the file is not there.

    :raise ManifestInvalid: it cannot be read
    """
    try:
        return PlanFile.model_validate_json(store.recovery_plans.read_bytes()).plans
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ManifestInvalid(str(store.recovery_plans), error.strerror or str(error)) from None
    except ValidationError as error:
        raise ManifestInvalid(str(store.recovery_plans), error.errors()[0]["msg"]) from None
