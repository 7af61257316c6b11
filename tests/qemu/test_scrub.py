# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A layer rots in the store: a scrub finds it, and the next backup heals what comes after."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import backups
import pytest
from machine import MIB, Machine
from receiving import ReceiverProcess

CLUSTER = 65536


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    """A receiver of the test's own: what is damaged in its store is nobody else's business."""
    (tmp_path / "receiver").mkdir()
    with ReceiverProcess(tmp_path / "receiver") as process:
        process.group = "rotting"
        yield process


def flip(layer: Path, offset: int) -> None:
    """Change one bit of a byte of the disk, where qemu-img says that the layer keeps it."""
    argv = ["qemu-img", "map", "-U", "--output=json", layer]
    found = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    (place,) = (
        each["offset"] + offset - each["start"]
        for each in found
        if each["start"] <= offset < each["start"] + each["length"] and each["depth"] == 0
    )
    with layer.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, place)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1]), place)


def level(result: dict[str, Any]) -> tuple[str, str]:
    disk = result["vms"][0]["disks"][0]
    return disk["level"], disk["level_reason"]


def test_damage_is_found_named_and_healed(
    small_vm: Machine, receiver: ReceiverProcess, tmp_path: Path
) -> None:
    vm = small_vm
    backups.track(vm)
    vm.write("a", pattern=1, count=16 * MIB)
    first = backups.back_up_exactly(vm, receiver)["point"]
    vm.write("a", pattern=2, offset=MIB, count=MIB)
    second = backups.back_up_exactly(vm, receiver)["point"]
    flip(receiver.layer(vm.name, "vd-a", first), 5 * MIB + 17)
    flip(receiver.layer(vm.name, "vd-a", first), MIB)

    scrub = receiver.command("scrub", "--all", "--json")
    assert scrub.returncode == 10, scrub.stderr
    found = json.loads(scrub.stdout)
    assert [(each["point"], each["result"], each["ranges"]) for each in found["layers"]] == [
        (first, "damaged", [[MIB, CLUSTER], [5 * MIB, CLUSTER]]),
        (second, "good", []),
    ]
    (damage,) = found["damage"]
    assert f"at 2 points: {first}, {second}; back it up again" in damage

    vm.write("a", pattern=3, offset=9 * MIB, count=CLUSTER)
    healed = backups.back_up_exactly(vm, receiver)
    third = healed["point"]
    assert level(healed) == (
        "resync",
        f"the layer of point {first} is damaged; only what differs from point {second} is sent",
    )
    # what the guest has written, and the damage that the second point does not mask
    assert healed["vms"][0]["disks"][0]["dirty_bytes"] == 2 * CLUSTER

    truth = vm.directory / "truth-a.qcow2"
    restored = receiver.restore(third, vm.name, tmp_path / "third")
    assert restored.returncode == 0, restored.stderr
    backups.assert_same(tmp_path / "third" / vm.name / "vd-a.qcow2", truth)
    refused = receiver.restore(second, vm.name, tmp_path / "second")
    assert refused.returncode == 10
    assert f"is damaged at point {second}, bytes {5 * MIB} to {5 * MIB + CLUSTER}" in refused.stderr
    assert f"take point {third}, where it is not" in refused.stderr

    vm.write("a", pattern=4, offset=11 * MIB, count=CLUSTER)
    after = backups.back_up_exactly(vm, receiver)
    assert level(after) == ("incremental", f"changes since point {third}")
    checks = json.loads(receiver.command("check", "--json").stdout)["checks"]
    (told,) = (each["message"] for each in checks if each["name"] == "scrub")
    assert "the newest point is whole" in told


def test_a_layer_that_cannot_be_opened_is_not_built_upon(
    small_vm: Machine, receiver: ReceiverProcess, tmp_path: Path
) -> None:
    vm = small_vm
    backups.track(vm)
    vm.write("a", pattern=1, count=4 * MIB)
    first = backups.back_up_exactly(vm, receiver)["point"]
    vm.write("a", pattern=2, offset=MIB, count=CLUSTER)
    second = backups.back_up_exactly(vm, receiver)["point"]
    with receiver.layer(vm.name, "vd-a", second).open("r+b") as file:
        file.write(b"gone")
    assert receiver.command("scrub", "--all").returncode == 10
    vm.write("a", pattern=3, offset=2 * MIB, count=CLUSTER)
    healed = backups.back_up_exactly(vm, receiver)
    assert level(healed) == (
        "resync",
        f"the layer of point {second} is damaged; only what differs from point {first} is sent",
    )
    assert healed["vms"][0]["disks"][0]["dirty_bytes"] == 2 * CLUSTER
    assert receiver.restore(healed["point"], vm.name, tmp_path / "out").returncode == 0
