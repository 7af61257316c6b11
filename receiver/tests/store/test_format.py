# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from livebackup_receiver.errors import StoreUnsupported
from livebackup_receiver.store.format import check_format, ensure_format
from livebackup_receiver.store.lock import hold_store
from livebackup_receiver.store.paths import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_store_says_its_version_from_the_first_opening_on(store: Store) -> None:
    assert not check_format(store)
    ensure_format(store)
    assert json.loads((store.root / "format.json").read_text()) == {
        "format": "livebackup-store",
        "version": 1,
    }
    assert check_format(store)


def test_an_older_store_that_says_nothing_is_of_the_first_version(store: Store) -> None:
    store.vms.mkdir()
    ensure_format(store)
    assert check_format(store)


def test_looking_writes_nothing(store: Store) -> None:
    check_format(store)
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '{"format": "livebackup-store", "version": 2}',
            "it has version 2 of its format, and this receiver knows up to 1",
        ),
        ('{"format": "other", "version": 1}', "its format.json does not say which version it has"),
        ('{"format": "livebackup-store", "version": "1"}', "its format.json does not say"),
        ('{"format": "livebackup-store", "version": 0}', "its format.json does not say"),
        ("[]", "its format.json does not say"),
        ("{", "its format.json is not JSON"),
        ("\xff", "its format.json is not JSON"),
    ],
)
def test_what_is_not_understood_is_refused_and_left_as_it_is(store: Store, content: str, words: str) -> None:
    store.format.write_bytes(content.encode("latin-1"))
    with pytest.raises(StoreUnsupported, match=f"^the store {store.root} cannot be used: {words}"):
        ensure_format(store)
    with pytest.raises(StoreUnsupported), hold_store(store.root):
        pass
    assert store.format.read_bytes() == content.encode("latin-1")


def test_what_cannot_be_read_is_refused(store: Store) -> None:
    store.format.mkdir()
    with pytest.raises(StoreUnsupported, match="cannot be read"):
        check_format(store)
