# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever happens to a disk between its backups, in any order, each point shows what the disk held."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backups
import pytest
import test_stopped
from conftest import MakeMachine
from control import Refused
from machine import MIB, Image, Machine, wait_for
from modules import succeed
from receiving import ReceiverProcess
from test_snapshots import take_snapshot

SIZES = [8 * MIB + 512, 8 * MIB + 65536, 9 * MIB + 4096, 12 * MIB, 16 * MIB - 1024, 16 * MIB]
STEPS = 30
SNAPSHOTS = 2


@dataclass
class Course:
    """What happens to the only disk of a VM; ``chain`` are its nodes, the one the guest writes to last."""

    vm: Machine
    receiver: ReceiverProcess
    dice: random.Random
    granularity: int
    chain: list[str] = field(default_factory=lambda: ["disk-a"])
    files: dict[str, Path] = field(default_factory=dict)
    levels: list[str] = field(default_factory=list)

    def size(self) -> int:
        nodes = self.vm.command("query-named-block-nodes", flat=True)
        sizes = {node["node-name"]: int(node["image"]["virtual-size"]) for node in nodes}
        return sizes[self.chain[-1]]

    def track(self) -> None:
        backups.track(self.vm, transient=True, granularity=self.granularity)

    def write(self) -> None:
        count = self.dice.choice([512, 4096, 65536, 300 * 1024])
        last = self.size() - count
        offset = self.dice.choice([last, 512 * self.dice.randrange(last // 512)])
        self.vm.write("a", pattern=self.dice.randrange(1, 255), offset=offset, count=count)

    def resize(self) -> None:
        self.vm.command("block_resize", node_name=self.chain[-1], size=self.dice.choice(SIZES))

    def resize_at_rest(self) -> None:
        self.vm.stop()
        command = ["qemu-img", "resize", "-q", "--shrink", "-f", self.vm.images[0].format]
        subprocess.run([*command, str(self.vm.path("a")), str(self.dice.choice(SIZES))], check=True)
        self.start()

    def restart(self) -> None:
        self.vm.stop()
        self.start()

    def crash(self) -> None:
        self.vm.kill()
        self.start()

    def start(self) -> None:
        self.vm.start()
        self.track()

    def snapshot(self) -> None:
        name = f"overlay{len(self.files)}"
        with_bitmaps = self.dice.random() < 0.6
        self.files[name] = take_snapshot(self.vm, bitmaps=with_bitmaps, over=self.chain[-1], name=name)
        self.chain.append(name)

    def merge(self) -> None:
        above = self.dice.randrange(1, len(self.chain))
        top, base = self.chain[above], self.chain[above - 1]
        self.vm.command("block-commit", job_id="others", device=self.chain[-1], top_node=top, base_node=base)
        wait_for(self.is_merged, "the snapshot to be merged")
        node = self.chain.pop(above)
        wait_for(lambda: self.is_removed(node), f"{node} to be free")

    def is_removed(self, node: str) -> bool:
        try:
            self.vm.command("blockdev-del", node_name=node)
        except Refused:
            return False
        return True

    def is_merged(self) -> bool:
        for job in self.vm.command("query-jobs"):
            if job["status"] == "ready":
                self.vm.command("job-complete", id=job["id"])
        return not self.vm.command("query-jobs")

    def abort(self) -> None:
        backups.fail(self.vm, self.receiver, self.receiver.open(), cut_hook="false")
        assert self.vm.leftovers() == []

    def back_up(self) -> None:
        self.compare(backups.back_up(self.vm, self.receiver))
        assert self.vm.leftovers() == []

    def back_up_at_rest(self) -> None:
        self.vm.stop()
        options = test_stopped.arguments(self.vm, self.receiver, self.receiver.open())
        self.compare(succeed("backup", **options))
        self.start()

    def compare(self, result: dict[str, Any]) -> None:
        self.levels += backups.levels(result).values()
        layer = self.receiver.layer(self.vm.name, "vd-a", result["point"])
        backups.assert_same(layer, self.files.get(self.chain[-1], self.vm.path("a")))

    def step(self) -> None:
        acts = [self.write] * 4 + [self.back_up] * 5 + [self.resize] * 2 + [self.abort]
        if self.vm.images[0].format == "qcow2" and len(self.chain) <= SNAPSHOTS:
            acts += [self.snapshot] * 2
        if len(self.chain) > 1:
            acts += [self.merge] * 2
        else:
            acts += [
                self.restart,
                self.resize_at_rest,
                self.back_up_at_rest,
                self.back_up_at_rest,
                self.crash,
            ]
        self.dice.choice(acts)()


@pytest.mark.parametrize(
    ("seed", "image_format", "cluster", "granularity"),
    [(1, "qcow2", "64k", 65536), (2, "qcow2", "2M", 4096), (4, "raw", "", 65536)],
)
def test_every_point_is_true(
    make_machine: MakeMachine,
    receiver: ReceiverProcess,
    seed: int,
    image_format: str,
    cluster: str,
    granularity: int,
) -> None:
    options = ("-o", f"cluster_size={cluster}") if cluster else ()
    image = Image("a", image_format, bytes=SIZES[-1], options=options)
    vm = make_machine(images=(image,), rounds=0)
    course = Course(vm, receiver, random.Random(seed), granularity)
    course.track()
    for _step in range(STEPS):
        course.step()
    assert {"incremental"} < set(course.levels)
