# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from livebackup_receiver.catalog import tokens
from livebackup_receiver.catalog.engine import Catalog
from livebackup_receiver.errors import TokenExists, TokenUnknown
from livebackup_receiver.model import Role

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def create(catalog: Catalog, name: str = "hv1", expires_at: datetime | None = None) -> str:
    with catalog.write() as db:
        return tokens.create(db, name=name, role=Role.BACKUP, now=NOW, expires_at=expires_at)[1]


def test_a_token_is_found_by_its_secret_only(catalog: Catalog) -> None:
    secret = create(catalog)
    with catalog.read() as db:
        token = tokens.find(db, secret)
        assert token is not None
        assert (token.name, token.role, token.created_at) == ("hv1", Role.BACKUP, NOW)
        assert tokens.find(db, secret + "x") is None
        assert tokens.find(db, tokens.digest(secret)) is None


def test_the_secret_is_nowhere_in_the_catalog(catalog: Catalog) -> None:
    secret = create(catalog)
    with catalog.read() as db:
        assert secret not in str(db.execute(text("SELECT * FROM tokens")).all())


def test_secrets_are_different(catalog: Catalog) -> None:
    assert create(catalog, "hv1") != create(catalog, "hv2")


def test_a_name_is_given_once(catalog: Catalog) -> None:
    create(catalog)
    with pytest.raises(TokenExists, match="there already is a token named hv1"):
        create(catalog)


def test_a_revoked_token_is_gone(catalog: Catalog) -> None:
    secret = create(catalog)
    with catalog.write() as db:
        tokens.revoke(db, "hv1")
    with catalog.read() as db:
        assert tokens.find(db, secret) is None
        assert tokens.every(db) == []
    with pytest.raises(TokenUnknown, match="there is no token named hv1"), catalog.write() as db:
        tokens.revoke(db, "hv1")


def test_a_token_expires(catalog: Catalog) -> None:
    secret = create(catalog, expires_at=NOW + timedelta(days=1))
    with catalog.read() as db:
        token = tokens.find(db, secret)
    assert token is not None
    assert token.valid(NOW)
    assert not token.valid(NOW + timedelta(days=1))
