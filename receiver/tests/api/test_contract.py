# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples that the collection builds on are what this receiver takes and gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, TypeAdapter

from livebackup_receiver import errors
from livebackup_receiver.api import (
    browses,
    checks,
    decisions,
    exports,
    groups,
    health,
    leases,
    points,
    policies,
    rehearsals,
    retention,
    sessions,
)
from livebackup_receiver.api.app import ErrorBody
from livebackup_receiver.api.contract import openapi_document
from livebackup_receiver.api.recovery_order import RecoveryOrder
from livebackup_receiver.browse.entries import FileSystems, Listing
from livebackup_receiver.browse.live import Browse
from livebackup_receiver.coordinator.opening import Opening
from livebackup_receiver.coordinator.orders import Answer, Order
from livebackup_receiver.coordinator.reconcile import SeenBitmaps, Verdict
from livebackup_receiver.coordinator.reports import ReportedStep
from livebackup_receiver.exports import Export
from livebackup_receiver.model import ParticipantState, Point, Session
from livebackup_receiver.recovery.declared import DeclaredPlan
from livebackup_receiver.recovery.plan import RecoveryPlan
from livebackup_receiver.rehearsal.result import Rehearsal
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.retention.outlook import ForecastAsked, RetentionForecast
from livebackup_receiver.retention.plan import RetentionApplied, RetentionPlan, RetentionPreview
from livebackup_receiver.retention.policy import RetentionPolicy
from livebackup_receiver.tree import VmTree

CONTRACT = Path(__file__).parents[3] / "tests" / "contract"
EXAMPLES = sorted((CONTRACT / "examples").glob("*.json"))
NAMES = [path.stem for path in EXAMPLES]

BODIES: dict[str, Any] = {
    "session-open.request": Opening,
    "session-open.response": Session,
    "session.response": Session,
    "session-aborted.response": Session,
    "sessions.response": sessions.Sessions,
    "session-abort.request": sessions.Abort,
    "reconcile.request": SeenBitmaps,
    "reconcile.response": Verdict,
    "point.response": Point,
    "points.response": points.Points,
    "export-create.request": exports.Exporting,
    "export-create.response": Export,
    "lease-take.request": leases.Leasing,
    "lease-take.response": leases.TakenLease,
    "leases.response": leases.Leases,
    "browse-open.request": browses.Browsing,
    "browse-open.response": Browse,
    "browse-file-systems.response": FileSystems,
    "browse-entries.response": Listing,
    "point-pin.request": decisions.Pin,
    "point-lock.request": decisions.Lock,
    "policy-declare.request": RetentionPolicy,
    "policy-declare.response": DeclaredPolicy,
    "policies.response": policies.Policies,
    "retention-plan.response": RetentionPlan,
    "retention-applied.response": RetentionApplied,
    "retention-preview.request": retention.Proposal,
    "retention-preview.response": RetentionPreview,
    "retention-simulation.request": ForecastAsked,
    "retention-simulation.response": RetentionForecast,
    "recovery-plan-declare.request": RecoveryPlan,
    "recovery-plan-declare.response": DeclaredPlan,
    "rehearsal-start.request": rehearsals.Rehearsing,
    "rehearsal-start.response": Rehearsal,
    "rehearsal.response": Rehearsal,
    "rehearsals.response": rehearsals.Rehearsals,
    "groups.response": groups.Groups,
    "vm-tree.response": VmTree,
    "recovery-order.response": RecoveryOrder,
    "checks.response": checks.Checks,
    "health.response": health.Health,
}


def body_of(name: str) -> Any:
    """The model of an example."""
    if name.startswith("step-"):
        return ReportedStep
    if name.startswith("answer-"):
        return Answer
    return ErrorBody if name.startswith("error-") else BODIES[name]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_openapi_document_is_not_stale() -> None:
    written = (CONTRACT / "openapi.json").read_text()
    assert written == openapi_document(), "run: python -m livebackup_receiver.api.contract > openapi.json"


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_every_example_is_what_the_models_say(path: Path) -> None:
    adapter = TypeAdapter[Any](body_of(path.stem))
    example = read(path)
    assert (
        json.loads(adapter.dump_json(adapter.validate_json(path.read_bytes()), exclude_unset=True)) == example
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_every_example_fits_the_published_schema(path: Path) -> None:
    document = read(CONTRACT / "openapi.json")
    body = body_of(path.stem)
    mode = "request" if path.stem.endswith(".request") else "response"
    schema = schema_of(document, body, mode)
    jsonschema.validate(read(path), schema | {"components": document["components"]})


def schema_of(document: dict[str, Any], body: Any, mode: str) -> dict[str, Any]:
    if body is ReportedStep:
        path = "/api/v1/sessions/{session_id}/participants/{host}/steps"
        content = document["paths"][path]["post"]["requestBody"]["content"]
        schema: dict[str, Any] = content["application/json"]["schema"]
        return schema
    assert issubclass(body, BaseModel)
    return {"$ref": f"#/components/schemas/{body.__name__}"}


@pytest.mark.parametrize("state", list(ParticipantState))
def test_there_is_an_example_of_every_step(state: ParticipantState) -> None:
    assert f"step-{state}.request" in NAMES


@pytest.mark.parametrize("order", list(Order))
def test_there_is_an_example_of_every_order(order: Order) -> None:
    answer = read(CONTRACT / "examples" / f"answer-{order}.response.json")
    assert answer["order"] == order


def test_examples_of_errors_are_errors_of_ours() -> None:
    kinds = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    for path in EXAMPLES:
        if path.stem.startswith("error-"):
            error = read(path)["error"]
            assert error["code"] in kinds
            assert path.stem == f"error-{error['code']}.response"
