# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from livebackup_receiver.errors import ManifestInvalid
from livebackup_receiver.model import Consistency, Level
from livebackup_receiver.store.manifest import Manifest, Member, point_of, read_manifest, write_manifest
from livebackup_receiver.store.paths import Store

NOW = datetime(2026, 3, 1, 3, tzinfo=UTC)
POINT = "01JD7FZK3M4N5P6Q7R8S9T0V1W"


def manifest(vm: str = "db", disk: str = "vd-a", **facts: Any) -> Manifest:
    defaults: dict[str, Any] = {
        "point": POINT,
        "group": "nightly",
        "host": "hv1",
        "parent": None,
        "level": Level.FULL,
        "level_reason": "first backup of this disk",
        "virtual_size": 1 << 30,
        "cut_at": NOW,
        "sealed_at": NOW + timedelta(seconds=30),
        "consistency": Consistency.FILESYSTEM,
        "pause_ms": 23.4,
        "complete": True,
        "layer_size": 196608,
        "stored_bytes": 131072,
        "dirty_bytes": None,
        "sent_bytes": 131072,
        "root": "blake3:00",
        "members": [Member(vm=vm, disk=disk)],
    }
    return Manifest(vm=vm, disk=disk, **(defaults | facts))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.json", manifest())
    assert read_manifest(tmp_path / "m.json") == manifest()


def test_the_first_version_is_read_too(tmp_path: Path) -> None:
    first = manifest().model_dump(mode="json", exclude={"root"}) | {
        "format_version": 1,
        "digest": "blake3:00",
    }
    (tmp_path / "m.json").write_text(json.dumps(first))
    assert read_manifest(tmp_path / "m.json") == manifest(root=None)


def test_a_person_can_read_it(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.json", manifest())
    text = (tmp_path / "m.json").read_text()
    assert '"cut_at": "2026-03-01T03:00:00.000Z"' in text
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "content: Invalid JSON"),
        ("{}", "point: Field required"),
        (manifest().model_dump_json().replace('"format_version":2', '"format_version":3'), "format_version"),
        (manifest().model_dump_json().replace('"full"', '"half"'), "level"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ManifestInvalid, match=sentence) as caught:
        read_manifest(tmp_path / "m.json")
    assert caught.value.path == str(tmp_path / "m.json")


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="No such file or directory"):
        read_manifest(tmp_path / "m.json")


def test_a_point_promises_what_its_weakest_vm_does(tmp_path: Path) -> None:
    manifests = [
        manifest("web", consistency=Consistency.CRASH),
        manifest("db", "vd-b"),
        manifest("db", "vd-a"),
    ]
    point = point_of(manifests, Store(tmp_path), committed_at=NOW)
    assert (point.id, point.consistency) == (POINT, Consistency.CRASH)
    assert [(vm.vm, [disk.disk for disk in vm.disks]) for vm in point.vms] == [
        ("db", ["vd-a", "vd-b"]),
        ("web", ["vd-a"]),
    ]
    assert point.vms[1].disks[0].layer == f"vms/web/vd-a/{POINT}.qcow2"
