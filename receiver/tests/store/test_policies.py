# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_records import NOW

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.retention.declared import DeclaredPolicy
from livebackup_receiver.retention.policy import RetentionPolicy
from livebackup_receiver.store.paths import Store
from livebackup_receiver.store.policies import read_policies, write_policies

POLICY = DeclaredPolicy(scope="group:nightly", policy=RetentionPolicy(daily=7), changed_at=NOW)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert read_policies(store) == []
    write_policies(store, [POLICY])
    assert read_policies(store) == [POLICY]
    assert [path.name for path in tmp_path.iterdir()] == ["policies.json"]


def test_the_file_can_be_read_by_people_and_other_programs(tmp_path: Path) -> None:
    write_policies(Store(tmp_path), [POLICY])
    content = json.loads((tmp_path / "policies.json").read_text())
    assert content["format_version"] == 1
    (policy,) = content["policies"]
    assert (policy["scope"], policy["policy"]["daily"]) == ("group:nightly", 7)
    assert policy["changed_at"] == "2026-03-01T03:00:00.000Z"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"format_version": 2, "policies": []}',
        '{"format_version": 1, "policies": [{"scope": "nightly"}]}',
    ],
)
def test_a_file_that_is_not_understood_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "policies.json").write_text(content)
    with pytest.raises(ManifestInvalid, match=r"policies\.json cannot be read"):
        read_policies(Store(tmp_path))
