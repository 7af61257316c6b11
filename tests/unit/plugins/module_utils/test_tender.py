# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process a VM reads a restore point through: what it is started with, and what it must not import."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from pathlib import Path

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils import (
    _names,
    _overlay,
    _tender,
    _tender_link,
    _tender_plugin,
    _tender_vm,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import OptionError

UNIT = Path(__file__).parents[4] / "roles/hypervisor/files/livebackup-instant@.service"
SOURCES = (_tender_link, _tender_vm, _tender_plugin)
USUAL = {"name": None, "vm": "db", "state_dir": _tender.STATE_DIR, "run_dir": _tender.RUN_DIR}


def test_the_unit_starts_the_same_as_the_module() -> None:
    tender = _tender.tender_of(USUAL)
    text = re.sub(r"\\\n\s*", "", UNIT.read_text()).replace("%i", "db")
    command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert shlex.split(command.removeprefix("ExecStart=/usr/bin/env nbdkit")) == tender.arguments()
    assert f"PIDFile={tender.pid_file}" in text
    assert f"ConditionPathExists={tender.parameters}" in text
    assert f"Environment=PYTHONPATH={tender.library}" in text
    assert UNIT.name == Path(_tender.UNIT_FILE).name


@pytest.mark.parametrize("module", SOURCES)
def test_its_sources_import_nothing_that_is_not_put_beside_them(module: object) -> None:
    beside = {source.__name__ for source in SOURCES}
    for node in ast.walk(ast.parse(inspect.getsource(module))):  # type: ignore[arg-type]
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ansible"):
            assert node.module in beside


def test_a_socket_whose_path_is_too_long() -> None:
    with pytest.raises(OptionError, match="shorter run_dir"):
        _tender.tender_of({**USUAL, "run_dir": "/run/" + "x" * 100})


def test_what_qemu_is_told_of_a_disk() -> None:
    node = json.loads(_overlay.blockdev("vd-a", "/srv/vd-a.qcow2"))
    assert node["node-name"] == "disk-vd-a"
    assert node["file"]["filename"] == "/srv/vd-a.qcow2"
    assert "drive=disk-vd-a" in _overlay.device("vd-a")
    assert "rerror=stop,werror=stop" in _overlay.device("vd-a")


def test_a_backup_takes_the_move_for_the_job_of_another_program() -> None:
    assert not _names.moving_job(0).startswith(_names.PREFIX)
    assert len(_names.moving_node(99)) <= 31
