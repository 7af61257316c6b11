# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies as people declare them, and as they would be if something was changed; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from livebackup_receiver.model import Model, Moment
from livebackup_receiver.retention.policy import RetentionPolicy, Scope, ScopedPolicy


def _check_scope(text: str) -> str:
    return str(Scope.parse(text))


ScopeText = Annotated[str, AfterValidator(_check_scope)]


class DeclaredPolicy(Model):
    """What is to be kept of a group, a VM or a disk; ``scope`` as in "group:nightly"."""

    scope: ScopeText
    policy: RetentionPolicy
    changed_at: Moment


class ProposedPolicy(Model):
    """A policy that might be declared; null: the scope would have none."""

    scope: ScopeText
    policy: RetentionPolicy | None


def in_force(declared: Iterable[DeclaredPolicy]) -> list[ScopedPolicy]:
    """What is declared, as the rules take it."""
    return [ScopedPolicy(Scope.parse(each.scope), each.policy) for each in declared]


def propose(policies: Iterable[ScopedPolicy], proposed: Iterable[ProposedPolicy]) -> list[ScopedPolicy]:
    """The policies as they would be; of two proposals for a scope the last counts."""
    by_scope: dict[Scope, RetentionPolicy | None] = {each.scope: each.policy for each in policies}
    by_scope |= {Scope.parse(each.scope): each.policy for each in proposed}
    return [
        ScopedPolicy(scope, policy)
        for scope, policy in sorted(by_scope.items(), key=lambda item: str(item[0]))
        if policy is not None
    ]
