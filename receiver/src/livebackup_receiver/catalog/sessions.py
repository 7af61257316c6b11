# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions in the catalog: saved whole, given back whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import func, insert, inspect, select, update
from sqlalchemy.orm import Session as Database

from livebackup_receiver.catalog.groups import ensure_group
from livebackup_receiver.catalog.schema import ParticipantRow, SessionRow, TransferRow, TransitionRow
from livebackup_receiver.errors import SessionUnknown
from livebackup_receiver.model import Participant, Session, SessionState, Transfer, Transition

M = TypeVar("M", bound=BaseModel)

ENDED = tuple(state for state in SessionState if state.ended)


def save_session(db: Database, session: Session) -> None:
    """Insert the session, or bring its rows to this state; transitions are only ever added."""
    ensure_group(db, session.group, now=session.opened_at)
    key = {"session_id": session.id}
    db.merge(SessionRow(**_columns(session, leave={"participants", "disks", "transitions"})))
    db.flush()
    _save_rows(db, ParticipantRow, [{**key, **_columns(each)} for each in session.participants])
    _save_rows(db, TransferRow, [{**key, **_columns(each)} for each in session.disks])
    written = _count_transitions(db, session.id)
    added = enumerate(session.transitions[written:], written)
    _insert_rows(db, TransitionRow, [{**key, "number": number, **_columns(each)} for number, each in added])


def load_session(db: Database, session_id: str) -> Session:
    """One session.

    :raise SessionUnknown: the catalog does not have it
    """
    row = db.get(SessionRow, session_id)
    if row is None:
        raise SessionUnknown(session_id)
    return _session(row)


def load_outline(db: Database, session_id: str) -> Session:
    """A session without its disks and transitions, for questions that hundreds of those would slow down.

    :raise SessionUnknown: the catalog does not have it
    """
    row = db.get(SessionRow, session_id)
    if row is None:
        raise SessionUnknown(session_id)
    return _outline(row)


def add_to_history(db: Database, outline: Session) -> None:
    """Save the participants of an outline, and its transitions as those that followed the known ones."""
    key = {"session_id": outline.id}
    _save_rows(db, ParticipantRow, [{**key, **_columns(each)} for each in outline.participants])
    added = enumerate(outline.transitions, _count_transitions(db, outline.id))
    _insert_rows(db, TransitionRow, [{**key, "number": number, **_columns(each)} for number, each in added])


def list_sessions(
    db: Database, *, group: str | None = None, ended: bool | None = None, limit: int = 50
) -> list[Session]:
    """Sessions, newest first; of one group, and only ended or only open ones, if asked."""
    query = select(SessionRow).order_by(SessionRow.id.desc()).limit(limit)
    if group is not None:
        query = query.where(SessionRow.group == group)
    if ended is not None:
        query = query.where(SessionRow.state.in_(ENDED) if ended else SessionRow.state.not_in(ENDED))
    return [_session(row) for row in db.scalars(query)]


def uncommitted_ids(db: Database) -> set[str]:
    """Every session the catalog knows that has no restore point: its files may be removed."""
    return set(db.scalars(select(SessionRow.id).where(SessionRow.state != SessionState.COMMITTED)))


def newest_id(db: Database) -> str | None:
    """The greatest id of any session."""
    return db.scalar(select(func.max(SessionRow.id)))


def _save_rows(db: Database, table: type[Any], rows: list[dict[str, Any]]) -> None:
    """Insert rows of a session or bring them to this state, many with one statement."""
    if not rows:
        return
    names = [column.key for column in inspect(table).primary_key]
    kept = select(*(getattr(table, name) for name in names)).where(table.session_id == rows[0]["session_id"])
    known = {tuple(row) for row in db.execute(kept)}
    old = [row for row in rows if tuple(row[name] for name in names) in known]
    if old:
        db.execute(update(table), old)
    _insert_rows(db, table, [row for row in rows if tuple(row[name] for name in names) not in known])


def _insert_rows(db: Database, table: type[Any], rows: list[dict[str, Any]]) -> None:
    if rows:
        db.execute(insert(table), rows)


def _count_transitions(db: Database, session_id: str) -> int:
    query = select(func.count()).where(TransitionRow.session_id == session_id)
    return db.scalar(query) or 0


def _session(row: SessionRow) -> Session:
    disks, transitions = _models(row.transfers, Transfer), _models(row.transitions, Transition)
    return _outline(row).model_copy(update={"disks": disks, "transitions": transitions})


def _outline(row: SessionRow) -> Session:
    return Session(
        **_fields(row, Session, leave={"participants", "disks", "transitions"}),
        participants=_models(row.participants, Participant),
    )


def _models(rows: Iterable[Any], model: type[M]) -> list[M]:
    return [model(**_fields(row, model)) for row in rows]


def _columns(model: BaseModel, leave: set[str] | None = None) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields if name not in (leave or ())}


def _fields(row: Any, model: type[BaseModel], leave: set[str] | None = None) -> dict[str, Any]:
    return {name: getattr(row, name) for name in model.model_fields if name not in (leave or ())}
