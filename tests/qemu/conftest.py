# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real QEMUs and a real receiver for the tests of the modules."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("backups", "machine", "modules", "receiving", "restored")

import restored  # noqa: E402
from machine import Image, Machine  # noqa: E402 - found through the path just set
from modules import COLLECTIONS, RUNNING  # noqa: E402
from receiving import ReceiverProcess  # noqa: E402

MakeMachine = Callable[..., Machine]
NUMBERS = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def collection() -> None:
    """The checkout under the collection's name."""
    link = COLLECTIONS / "ansible_collections/livebackup/qemu"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(Path(__file__).parents[2])


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[MakeMachine]:
    """Make and start VMs; they are gone after the test."""
    made: list[Machine] = []

    def make(**options: Any) -> Machine:
        # a receiver knows a VM by its name, and earlier tests may have left a session open
        machine = Machine(tmp_path, **{"name": f"db{next(NUMBERS)}", **options}).create()
        made.append(machine)
        return machine.start()

    yield make
    for machine in made:
        machine.kill()


@pytest.fixture(autouse=True)
def no_module_outlives_its_test() -> Iterator[None]:
    """Kill what a failed test has left."""
    yield
    for running in RUNNING:
        running.kill()
    RUNNING.clear()


@pytest.fixture
def vm(make_machine: MakeMachine) -> Machine:
    """A VM with two qcow2 disks whose guest writes to both."""
    return make_machine()


@pytest.fixture
def small_vm(make_machine: MakeMachine) -> Machine:
    """A VM with one disk to which only the test writes."""
    return make_machine(images=(Image("a"),), rounds=0)


@pytest.fixture(scope="session")
def receiver_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    """A receiver that serves over HTTPS, for all tests."""
    with ReceiverProcess(tmp_path_factory.mktemp("receiver")) as process:
        yield process


@pytest.fixture
def receiver(receiver_process: ReceiverProcess) -> ReceiverProcess:
    """The receiver with a group of the test's own."""
    receiver_process.group = f"group{next(NUMBERS)}"
    return receiver_process


@pytest.fixture
def own_receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    """A receiver that the test may kill."""
    (tmp_path / "receiver").mkdir()
    with ReceiverProcess(tmp_path / "receiver") as process:
        yield process


@pytest.fixture
def site(
    make_machine: Callable[..., Machine], own_receiver: ReceiverProcess, tmp_path: Path
) -> Iterator[restored.Site]:
    """A point of a VM with two disks, which is gone."""
    with restored.site(make_machine(rounds=0), own_receiver, tmp_path) as made:
        yield made
