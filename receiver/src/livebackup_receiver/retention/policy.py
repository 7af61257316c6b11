# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be kept: policies, and what each is for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from livebackup_receiver.model import Model
from livebackup_receiver.retention.durations import Duration
from livebackup_receiver.retention.periods import Periods
from livebackup_receiver.store.paths import NAME


def time_zone(name: str) -> tzinfo:
    """The time zone of a name in the IANA data base; UTC needs no data base.

    :raise ValueError: there is none
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f'there is no time zone {name!r}: write one such as "Europe/Berlin"') from None


def _check_zone(name: str) -> str:
    time_zone(name)
    return name


def _check_duration(text: str) -> str:
    return str(Duration.parse(text))


# strict, because a "true" that counts as 1 would throw points away
Count = Annotated[int, Field(ge=0, strict=True)]


class RetentionPolicy(Model):
    """How many points of which kind are kept; a point goes when no rule keeps it.

    ``keep_last`` counts points, ``keep_within`` is a duration up to now. The rules of the calendar keep the
    newest point of each hour, day, ISO week, month or year of the time zone, for that many of the newest
    periods that have points: weeks without a backup are not counted. A rule of 0 keeps nothing. Whatever
    the rules say, the newest ``minimum`` complete points are kept.
    """

    keep_last: Count | None = None
    keep_within: Annotated[str, AfterValidator(_check_duration)] | None = None
    hourly: Count | None = None
    daily: Count | None = None
    weekly: Count | None = None
    monthly: Count | None = None
    yearly: Count | None = None
    minimum: Annotated[int, Field(ge=1, strict=True)] = 1
    time_zone: Annotated[str, AfterValidator(_check_zone)] = "UTC"

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _require_rule(self) -> RetentionPolicy:
        rules = (self.keep_last, self.keep_within, *(getattr(self, name) for name in Periods._fields))
        if all(rule is None for rule in rules):
            raise ValueError(
                "a policy needs a rule, such as daily: 7; say keep_last: 0 to keep no more than the minimum"
            )
        return self

    @property
    def zone(self) -> tzinfo:
        return time_zone(self.time_zone)

    @property
    def within(self) -> Duration | None:
        return Duration.parse(self.keep_within) if self.keep_within else None

    def calendar_rules(self) -> list[tuple[str, int]]:
        """Name and count of each rule of the calendar that keeps anything."""
        return [(name, count) for name in Periods._fields if (count := getattr(self, name))]

    def describe(self) -> str:
        """The policy in a line: ``last 3, 24 hourly, 7 daily (Europe/Berlin), at least 1``."""
        zone = f" ({self.time_zone})" if self.keep_within or self.calendar_rules() else ""
        return f"{', '.join(self._phrases()) or 'no rule'}{zone}, at least {self.minimum}"

    def _phrases(self) -> Iterator[str]:
        if self.keep_last:
            yield f"last {self.keep_last}"
        if self.keep_within:
            yield f"within {self.keep_within}"
        for name, count in self.calendar_rules():
            yield f"{count} {name}"


class ScopeKind(StrEnum):
    GROUP = "group"
    VM = "vm"
    DISK = "disk"


@dataclass(frozen=True)
class Scope:
    """What a policy is for; its text is ``group:nightly``, ``vm:db1`` or ``disk:db1/virtio0``.

    :param name: of the group or the VM; for a disk, of its VM
    :param disk: only for a disk
    """

    kind: ScopeKind
    name: str
    disk: str | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """:raise ValueError: it is not the text of a scope"""
        kind, dummy, rest = text.partition(":")
        names = rest.split("/")
        wanted = 2 if kind == ScopeKind.DISK else 1
        if kind not in tuple(ScopeKind) or len(names) != wanted or not all(map(NAME.fullmatch, names)):
            raise ValueError(
                f'{text!r} is not a scope: write "group:<group>", "vm:<vm>" or "disk:<vm>/<disk>"'
            )
        return cls(ScopeKind(kind), *names)

    def __str__(self) -> str:
        return f"{self.kind}:{self._names}"

    @property
    def label(self) -> str:
        """What people call it: ``vm db1``."""
        return f"{self.kind} {self._names}"

    @property
    def _names(self) -> str:
        return self.name if self.disk is None else f"{self.name}/{self.disk}"

    def covers(self, group: str, disks: Collection[tuple[str, str]]) -> bool:
        """Whether it is for a point of this group that holds these disks (VM and disk)."""
        if self.kind is ScopeKind.GROUP:
            return self.name == group
        if self.kind is ScopeKind.VM:
            return any(vm == self.name for vm, dummy in disks)
        return (self.name, self.disk or "") in disks


@dataclass(frozen=True)
class ScopedPolicy:
    scope: Scope
    policy: RetentionPolicy


def group_zone(group: str, policies: Sequence[ScopedPolicy]) -> tzinfo:
    """The time zone of a group's dates: that of its own policy, else of one for a VM or disk, else UTC."""
    own = [each for each in policies if each.scope == Scope(ScopeKind.GROUP, group)]
    parts = [each for each in policies if each.scope.kind is not ScopeKind.GROUP]
    return next((each.policy.zone for each in (*own, *parts)), UTC)
