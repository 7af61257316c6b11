# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver's figures for Prometheus, taken anew at every scrape."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from livebackup_receiver.api.auth import MayRead, ReceiverOf
from livebackup_receiver.catalog import figures, groups, rehearsals
from livebackup_receiver.catalog.figures import GroupFigures
from livebackup_receiver.catalog.layer_checks import CheckFigures, count_checks
from livebackup_receiver.checks.result import Check
from livebackup_receiver.errors import StoreFailed
from livebackup_receiver.model import Group, Outcome, PointRehearsal, Session
from livebackup_receiver.rooms import outlooks
from livebackup_receiver.scrub.finding import Result
from livebackup_receiver.state import Receiver
from livebackup_receiver.store.outlook import Outlook

router = APIRouter(tags=["metrics"])


@dataclass(frozen=True)
class Facts:
    """What the figures are made of."""

    now: datetime
    groups: Sequence[Group]
    counted: Sequence[GroupFigures]
    running: Sequence[Session]
    checks: Sequence[Check]
    disk: tuple[int, int, int]
    volumes: Sequence[Outlook]
    read: CheckFigures
    rehearsed: Mapping[str, PointRehearsal]


class FactsCollector(Collector):
    """Gives one scrape's figures to the library that writes them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        facts = self._facts
        yield from session_metrics(facts.counted, facts.running)
        yield from point_metrics(facts.groups, facts.counted, facts.now)
        yield from store_metrics(*facts.disk)
        yield from volume_metrics(facts.volumes)
        yield check_metric(facts.checks)
        yield from scrub_metrics(facts.read, facts.now)
        yield from rehearsal_metrics(facts.rehearsed, facts.now)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def get_metrics(receiver: ReceiverOf, token: MayRead) -> Response:
    """All figures in the text format of Prometheus."""
    found, counted, read = await asyncio.to_thread(_read_catalog, receiver)
    volumes = await asyncio.to_thread(_look_at_volumes, receiver)
    facts = Facts(
        now=datetime.now(UTC),
        groups=found,
        counted=counted,
        running=receiver.sessions.every(),
        checks=receiver.checks.latest,
        disk=shutil.disk_usage(receiver.store.root),
        volumes=volumes,
        read=read,
        rehearsed=await asyncio.to_thread(_newest_rehearsals, receiver),
    )
    registry = CollectorRegistry()
    registry.register(FactsCollector(facts))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _read_catalog(receiver: Receiver) -> tuple[list[Group], list[GroupFigures], CheckFigures]:
    with receiver.catalog.read() as db:
        return groups.list_groups(db), figures.count_by_group(db), count_checks(db)


def _newest_rehearsals(receiver: Receiver) -> dict[str, PointRehearsal]:
    with receiver.catalog.read() as db:
        found = {group: rehearsals.newest_whole(db, group) for group in rehearsals.rehearsed_groups(db)}
    return {group: each for group, each in found.items() if each is not None}


def _look_at_volumes(receiver: Receiver) -> list[Outlook]:
    """None of them, if one is not there, of which the check tells; the other figures are wanted then too."""
    try:
        return outlooks(receiver.config, receiver.catalog, now=datetime.now(UTC))
    except StoreFailed:
        return []


def session_metrics(counted: Iterable[GroupFigures], running: Iterable[Session]) -> Iterator[Metric]:
    """Ended sessions by outcome, and those that run."""
    ended = CounterMetricFamily("livebackup_sessions", "Sessions that ended.", labels=["group", "outcome"])
    sent = CounterMetricFamily("livebackup_sent_bytes", "Bytes sent for committed points.", labels=["group"])
    for group in counted:
        ended.add_metric([group.name, "committed"], group.committed)
        ended.add_metric([group.name, "aborted"], group.aborted)
        sent.add_metric([group.name], group.sent_bytes)
    yield ended
    yield sent
    busy = GaugeMetricFamily(
        "livebackup_running_session", "1 for each session that runs.", labels=["group", "state"]
    )
    for session in running:
        busy.add_metric([session.group, session.state], 1)
    yield busy


def point_metrics(found: Iterable[Group], counted: Iterable[GroupFigures], now: datetime) -> Iterator[Metric]:
    """Restore points of each group, and how old the newest is; a group without a point has no age."""
    age = GaugeMetricFamily("livebackup_last_point_age_seconds", "Age of the newest point.", labels=["group"])
    for group in found:
        if group.last_point:
            age.add_metric([group.name], (now - group.last_point.committed_at).total_seconds())
    yield age
    points = GaugeMetricFamily("livebackup_points", "Restore points.", labels=["group"])
    dropped = GaugeMetricFamily(
        "livebackup_dropped_points", "Dropped points of which layers are still there.", labels=["group"]
    )
    stored = GaugeMetricFamily("livebackup_stored_bytes", "Bytes of all layers.", labels=["group"])
    for figure in counted:
        points.add_metric([figure.name], figure.points)
        dropped.add_metric([figure.name], figure.dropped_points)
        stored.add_metric([figure.name], figure.stored_bytes)
    yield points
    yield dropped
    yield stored


def store_metrics(total: int, used: int, free: int) -> Iterator[Metric]:
    """The store's file system, in bytes."""
    yield GaugeMetricFamily("livebackup_store_size_bytes", "Size of the store's file system.", value=total)
    yield GaugeMetricFamily(
        "livebackup_store_used_bytes", "Used bytes of the store's file system.", value=used
    )
    yield GaugeMetricFamily(
        "livebackup_store_free_bytes", "Free bytes of the store's file system.", value=free
    )


def volume_metrics(volumes: Iterable[Outlook]) -> Iterator[Metric]:
    """Of the store and each further volume: what layers take, what comes back, how long the rest will do."""
    names = {
        "free_bytes": "Free bytes of a volume.",
        "total_bytes": "Size of a volume's file system.",
        "used_bytes": "Bytes of the layers on a volume.",
        "freeable_bytes": "Bytes that layers of dropped points still take.",
        "growth_bytes_per_day": "Bytes stored on a day, on the average of a week.",
        "days_left": "Days until a volume is full, if it goes on like this; absent: nothing was stored.",
    }
    found = [each.model_dump() for each in volumes]
    for name, meaning in names.items():
        metric = GaugeMetricFamily(f"livebackup_volume_{name}", meaning, labels=["volume"])
        for each in found:
            if each[name] is not None:
                metric.add_metric([each["volume"]], each[name])
        yield metric


def check_metric(checks: Iterable[Check]) -> Metric:
    """Each check's severity: 0 ok, 1 warning, 2 failed."""
    metric = GaugeMetricFamily(
        "livebackup_check", "State of a check: 0 ok, 1 warning, 2 failed.", labels=["check"]
    )
    for check in checks:
        metric.add_metric([check.name], check.state.severity)
    return metric


def scrub_metrics(read: CheckFigures, now: datetime) -> Iterator[Metric]:
    """How many layers are good or not, or were never read back, and how long ago the oldest reading is."""
    layers = GaugeMetricFamily(
        "livebackup_layers", "Layers by what reading them back has shown.", labels=["result"]
    )
    for result in Result:
        layers.add_metric([result], read.by_result.get(result, 0))
    layers.add_metric(["never"], read.never)
    yield layers
    age = GaugeMetricFamily("livebackup_oldest_layer_check_age_seconds", "Age of the oldest reading back.")
    if read.oldest:
        age.add_metric([], (now - read.oldest).total_seconds())
    yield age


def rehearsal_metrics(found: Mapping[str, PointRehearsal], now: datetime) -> Iterator[Metric]:
    """The newest rehearsal of each group: 1 for its outcome, 0 for the others, and how long ago it ended."""
    outcome = GaugeMetricFamily(
        "livebackup_rehearsal", "1 for the outcome of the newest rehearsal.", labels=["group", "outcome"]
    )
    age = GaugeMetricFamily(
        "livebackup_last_rehearsal_age_seconds", "Age of the newest rehearsal.", labels=["group"]
    )
    for group, newest in found.items():
        for each in (Outcome.PASSED, Outcome.FAILED, Outcome.COULD_NOT_RUN):
            outcome.add_metric([group, each], int(newest.outcome is each))
        age.add_metric([group], (now - newest.ended_at).total_seconds())
    yield outcome
    yield age
