# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Targets of a restore, and how a file is known again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import _images, _restore, _sidecar
from ansible_collections.livebackup.qemu.plugins.module_utils._credentials import Transport
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    DiskUnknown,
    OptionError,
    VmUnknown,
)

ORIGIN = _sidecar.origin(point="P", vm="db", disk="vd-a", image_format="raw")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vd-a.raw"
    path.write_bytes(b"content")
    _sidecar.write(str(path), ORIGIN)
    return path


def test_a_restored_file_is_known_again(file: Path) -> None:
    assert _sidecar.still_holds(str(file), ORIGIN)


def test_another_point_is_another_content(file: Path) -> None:
    assert not _sidecar.still_holds(str(file), {**ORIGIN, "point": "Q"})


def test_a_write_is_noticed_even_if_the_size_stays(file: Path) -> None:
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(0, 1))
    assert not _sidecar.still_holds(str(file), ORIGIN)


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_damaged_note_is_no_note(file: Path, damage: str) -> None:
    Path(f"{file}{_sidecar.SUFFIX}").write_text(damage)
    assert not _sidecar.still_holds(str(file), ORIGIN)


def test_a_forgotten_file_is_not_known(file: Path) -> None:
    _sidecar.remove(str(file))
    _sidecar.remove(str(file))
    assert not _sidecar.still_holds(str(file), ORIGIN)


@pytest.fixture
def vm(example: Any) -> dict[str, Any]:
    found: dict[str, Any] = example("point.response")["vms"][0]
    return found


def params(dest: Path, vm: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"point": "P", "vm": vm["vm"], "dest": str(dest), "disks": None, "format": "qcow2", **changes}


def test_all_disks_of_the_point_get_a_file(tmp_path: Path, vm: dict[str, Any]) -> None:
    targets = _restore.targets_of(params(tmp_path, vm), vm)
    assert [target.path for target in targets] == [f"{tmp_path}/{disk['disk']}.qcow2" for disk in vm["disks"]]
    assert not any(target.exists or target.current for target in targets)
    assert os.path.dirname(targets[0].partial) == str(tmp_path)


def test_what_the_point_does_not_hold(tmp_path: Path, vm: dict[str, Any]) -> None:
    with pytest.raises(DiskUnknown, match="holds no disk vd-x of VM"):
        _restore.targets_of(params(tmp_path, vm, disks=["vd-x"]), vm)
    with pytest.raises(VmUnknown, match="holds no VM mail; it holds: db"):
        _restore.vm_of({"id": "P", "vms": [{"vm": "db"}]}, "mail")
    with pytest.raises(OptionError, match="create it first"):
        _restore.targets_of(params(tmp_path / "none", vm), vm)


def test_qemu_img_gets_the_key_by_a_directory_and_never_by_its_arguments() -> None:
    export = _images.Export("na,me", Transport("10.0.0.1", 10811, "user", "topsecret"), "/run/key")
    flags, source = export.arguments()
    assert source == (
        "driver=nbd,server.type=inet,server.host=10.0.0.1,server.port=10811,export=na,,me,tls-creds=livebackup"
    )
    assert flags[0] == "--object"
    assert flags[1].startswith("tls-creds-psk,id=livebackup,endpoint=client,dir=/run/key,username=user,")
    assert "topsecret" not in " ".join(flags) + source
