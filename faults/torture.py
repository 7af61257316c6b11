# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random sites, random faults, any number at once. A seed decides all that is decided here."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import Agent
from machine import MIB, Image, Machine

from faults import changes, combinations, invariants, isolation, kinds, store
from faults.kinds import Blow
from faults.participants import Started
from faults.site import Run, Site, site

# A site lives for so many rounds, then another one is thrown.
ROUNDS_OF_A_SITE = 12
MOST_BLOWS = 3
STRIKE_WITHIN_S = 4.0
# A fault that is undone lasts so long at most.
LASTS_S = 5.0
STORE_BYTES = 256 * MIB
SCRATCH_BYTES = 64 * MIB
WISH_SHARE, CHANGE_SHARE, FREEZE_SHARE = 0.4, 0.4, 0.4
SLOW_SHARE, IOTHREAD_SHARE = 0.5, 0.3
AGENT = "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"


@dataclass
class Score:
    """What has been done, and what was wrong, by the words of the last line."""

    seed: int
    rounds: int = 0
    points: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def hold(self, violations: list[str]) -> None:
        """Count and print violations."""
        for violation in violations:
            self.wrong[_word_of(violation)] += 1
            print(f"    VIOLATION {violation}", flush=True)

    def line(self) -> str:
        """The last line."""
        done = f"seed={self.seed} rounds={self.rounds} faults={self.faults.total()} points={self.points}"
        wrong = " ".join(f"{word}={self.wrong[word]}" for word in ("lost", "false", "leftovers", "stuck"))
        return f"torture: {done} {wrong}"


def _word_of(violation: str) -> str:
    if "is gone" in violation or "there is no such point" in violation:
        return "lost"
    if violation.startswith(("I1", "I2")):
        return "false"
    return "leftovers" if violation.startswith(("I4", "I5")) else "stuck"


@dataclass
class Storm:
    """The blows of one session, each at its time; ``attend`` lets them fall."""

    blow: Blow
    planned: list[tuple[float, str]]
    lasting: list[tuple[float, kinds.Undo]] = field(default_factory=list)
    fallen: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def attend(self, run: Run, started: Mapping[str, Started]) -> None:
        """Strike what is due, and undo what has lasted long enough."""
        self.blow.run, self.blow.started = run, started
        elapsed = time.monotonic() - self.began
        while self.planned and self.planned[0][0] <= elapsed:
            _at, kind = self.planned.pop(0)
            undo = kinds.DURING[kind](self.blow)
            self.fallen.append(kind)
            if undo:
                self.lasting.append((elapsed + self.blow.random.uniform(0.5, LASTS_S), undo))
        self._undo(elapsed)

    def calm(self) -> None:
        """Undo everything."""
        self._undo(float("inf"))

    def _undo(self, elapsed: float) -> None:
        for end, undo in [each for each in self.lasting if each[0] <= elapsed]:
            self.lasting.remove((end, undo))
            undo()


def torture(seed: int, rounds: int) -> int:
    """So many rounds; the number of violations."""
    isolation.prepare()
    score = Score(seed)
    with tempfile.TemporaryDirectory(prefix="torture-") as directory:
        while score.rounds < rounds:
            chance = random.Random(f"{seed}-{score.rounds}")
            with _thrown_site(Path(directory, str(score.rounds)), chance, score.rounds) as thrown:
                for _number in range(min(ROUNDS_OF_A_SITE, rounds - score.rounds)):
                    _round(thrown, random.Random(f"{seed}-{score.rounds}-round"), score)
                score.hold(_everything_again(thrown))
                score.points += len(store.points(thrown.receiver))
    print("faults:", ", ".join(f"{kind} {count}" for kind, count in sorted(score.faults.items())))
    print(score.line())
    return score.wrong.total()


def _round(thrown: Site, chance: random.Random, score: Score) -> None:
    blow = Blow(thrown, chance, Run())
    before = set(store.points(thrown.receiver))
    names = _change(blow, score)
    thrown.track_all()
    wishes = _wishes(chance, thrown)
    storm = Storm(blow, _plan(chance))
    thrown.writing.forget_delays()
    options: dict[str, Any] = {"speed": combinations.SLOW} if chance.random() < SLOW_SHARE else {}
    limits: dict[str, str] = {}
    if chance.random() < FREEZE_SHARE:
        limits["consistency"] = "filesystem"
        options["quiesce"] = dict.fromkeys(thrown.agents, "try")
    broken = thrown.run(wishes, limits=limits, options=options, attend=storm.attend)
    storm.calm()
    names += [f"faultpoint {wishes[actor]}" for actor in thrown.struck] + storm.fallen
    score.faults.update(name.split("#")[0].split(".")[0] for name in names)
    print(f"{score.rounds:4} {broken.states[-1:]} {', '.join(names)}: {broken.reason}", flush=True)
    score.rounds += 1
    _judge(thrown, broken, before, blow, score)


def _judge(thrown: Site, broken: Run, before: set[str], blow: Blow, score: Score) -> None:
    thrown.settle_receiver()
    score.hold([f"stuck: {each}" for each in broken.stuck])
    score.hold(invariants.of_promises(thrown, broken, before))
    score.hold(invariants.of_points(thrown, before))
    thrown.writing.wait_rounds()
    score.hold(invariants.of_guests(thrown))
    thrown.track_all()
    score.hold(combinations.heal(thrown, doubtful=blow.doubtful))
    score.hold([f"I3: the guest of {vm} is frozen" for vm, agent in thrown.agents.items() if agent.frozen])


def _change(blow: Blow, score: Score) -> list[str]:
    """Something that happens to VMs between two sessions."""
    if blow.random.random() > CHANGE_SHARE:
        return []
    kind = blow.random.choice(sorted(changes.BEFORE))
    violation = changes.BEFORE[kind](blow)
    score.hold([violation] if violation else [])
    return [kind]


def _wishes(chance: random.Random, thrown: Site) -> dict[str, str]:
    if chance.random() > WISH_SHARE:
        return {}
    combination = chance.choice([each for each in combinations.every() if each.hit == 1])
    actor = combination.actor if combination.actor == "receiver" else chance.choice(sorted(thrown.hosts))
    return {actor: combination.name}


def _plan(chance: random.Random) -> list[tuple[float, str]]:
    chosen = chance.choices(sorted(kinds.DURING), k=chance.randint(0, MOST_BLOWS))
    return sorted((chance.uniform(0.0, STRIKE_WITHIN_S), kind) for kind in chosen)


def _everything_again(thrown: Site) -> list[str]:
    """At the end every point must still be what it was at its cut."""
    return invariants.of_points(thrown, set())


@contextmanager
def _thrown_site(directory: Path, chance: random.Random, number: int) -> Iterator[Site]:
    hosts: dict[str, list[Machine]] = {f"hv{each}": [] for each in range(1, chance.randint(2, 3) + 1)}
    for each in range(chance.randint(len(hosts), 6)):
        host = f"hv{each % len(hosts) + 1}"
        hosts[host].append(_thrown_machine(directory, f"vm{number}-{each}", chance))
    with (
        isolation.small_file_system(directory / "receiver" / "store", STORE_BYTES),
        isolation.small_file_system(directory / "scratch", SCRATCH_BYTES),
        site(directory, hosts, number, apart=True) as thrown,
        ExitStack() as stack,
    ):
        for machine in thrown.machines:
            thrown.agents[machine.name] = stack.enter_context(Agent(_channel(directory, machine.name)))
        shape = {host: [len(machine.images) for machine in machines] for host, machines in hosts.items()}
        print(f"site: disks of each VM by host: {shape}", flush=True)
        thrown.writing.wait_rounds()
        if wrong := combinations.heal(thrown, doubtful=_all_disks(thrown)):
            raise RuntimeError(f"a site without faults does not back up: {wrong}")
        yield thrown


def _thrown_machine(directory: Path, name: str, chance: random.Random) -> Machine:
    images = tuple(
        Image(each, chance.choice(("qcow2", "qcow2", "raw")), chance.choice((2, 4, 8)) * MIB)
        for each in changes.NAMES[: chance.randint(1, len(changes.NAMES))]
    )
    iothreads = chance.random() < IOTHREAD_SHARE
    port = f"socket,id=agent,path={_channel(directory, name)},server=on,wait=off"
    extra = ("-device", "virtio-serial-pci", "-chardev", port, "-device", AGENT)
    return Machine(
        directory, name=name, images=images, rounds=0, driven=True, iothreads=iothreads, extra=extra
    )


def _channel(directory: Path, vm: str) -> Path:
    return directory / f"{vm}.agent"


def _all_disks(thrown: Site) -> set[tuple[str, str]]:
    return {(machine.name, f"vd-{image.name}") for machine in thrown.machines for image in machine.images}
