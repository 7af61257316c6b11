# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The retention policies, which no layer tells: ``<store>/policies.json``.

The file is written before the catalog, so a catalog that is made anew from the store keeps what it kept.
Without the file nothing is ever dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import ValidationError

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Model
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.store import durable
from livebackup_receiver.store.paths import Store


class PolicyFile(Model):
    """The content of the file."""

    format_version: Literal[1] = 1
    policies: list[DeclaredPolicy]


def write_policies(store: Store, policies: Iterable[DeclaredPolicy]) -> None:
    """Keep the policies durably, in place of all that were."""
    content = PolicyFile(policies=list(policies)).model_dump_json(indent=2)
    durable.write_file(store.policies, (content + "\n").encode())


def read_policies(store: Store) -> list[DeclaredPolicy]:
    """The policies; none if the file is not there.

    :raise ManifestInvalid: it cannot be read
    """
    try:
        return PolicyFile.model_validate_json(store.policies.read_bytes()).policies
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ManifestInvalid(str(store.policies), error.strerror or str(error)) from None
    except ValidationError as error:
        raise ManifestInvalid(str(store.policies), error.errors()[0]["msg"]) from None
