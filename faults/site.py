# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver and some hosts with VMs, on which sessions run while something breaks."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import Agent
from machine import Machine
from receiving import NBD_PORTS, ReceiverProcess

from faults.participants import Modules, Started, modules
from faults.writing import Writing

# The product's own limits, shortened so that a run does not take minutes.
STOP_BUDGET_S = 3.0
STALL_LIMIT_S = 2.0
SETTINGS = {"silence_s": 4.0, "flush_timeout_s": 3.0, "storage_daemon_timeout_s": 3.0}
JOIN_TIMEOUT_S = 3.0
# a run in which nothing is to break is not hurried
CALM = {"join_timeout_s": 30.0, "stop_budget_s": 10.0}
# A receiver that hangs is ended by its service manager, or by a person, after a while.
HANG_S, START_S = 4.0, 10.0
LOOK_S, STUCK_S, DYING_S = 0.12, 60.0, 1.0
LOOPBACK = "127.0.0.1"
ENDED = ("committed", "aborted")
VARIABLE = "LIVEBACKUP_FAULTPOINT"


@dataclass
class Run:
    """What became of one session: what each participant returned, and every state that was shown."""

    session: str | None = None
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)
    reason: str | None = None
    stuck: list[str] = field(default_factory=list)
    restarts: int = 0

    @property
    def said_committed(self) -> bool:
        """Whether anybody was told that the point is committed."""
        succeeded = any(result and not result.get("failed") for result in self.results.values())
        return succeeded or "committed" in self.states


@dataclass
class Site:
    """The machines of each host, by its name, and the receiver. Make it with ``site``."""

    directory: Path
    receiver: ReceiverProcess
    hosts: Mapping[str, Sequence[Machine]]
    modules: Modules
    writing: Writing
    sessions: list[str] = field(default_factory=list)
    struck: set[str] = field(default_factory=set)
    apart: bool = False
    agents: dict[str, Agent] = field(default_factory=dict)
    # modules that a fault has started
    others: list[Started] = field(default_factory=list)
    _at_restart: str | None = None

    @property
    def machines(self) -> list[Machine]:
        """All VMs."""
        return [machine for machines in self.hosts.values() for machine in machines]

    @property
    def temporary(self) -> Path:
        """Where receiver and modules put what is temporary."""
        return self.directory / "tmp"

    @property
    def scratch(self) -> Path:
        return self.directory / "scratch"

    def truth(self, session: str, vm: str, image: str) -> Path:
        """The copy of an image made while all VMs stood still."""
        return next((self.directory / "truth" / session).glob(f"{vm}-{image}.*"))

    def wish(self, actor: str) -> Path:
        """The file in which a fault for an actor is wished."""
        return self.directory / f"{actor}.fault"

    def run(
        self,
        faults: Mapping[str, str],
        *,
        at_restart: str | None = None,
        limits: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        attend: Callable[[Run, Mapping[str, Started]], None] = lambda run, started: None,
    ) -> Run:
        """One session over all hosts; ``struck`` has the actors whose faults came.

        :param faults: wishes by actor, a host or ``receiver``
        :param at_restart: another wish for the receiver, when it starts again
        :param limits: of the session; by default those of a run in which something breaks, if it is to
        :param options: of the participants, beside those that all have
        :param attend: called many times a second while the session runs
        """
        self.struck.clear()
        self._at_restart = at_restart
        self._wish(faults)
        run = Run()
        run.session = self._open(run, ({} if faults else CALM) if limits is None else limits)
        self.sessions += [run.session] if run.session else []
        hosts = self.hosts if run.session else {}
        started = {host: self.start(host, run.session or "", **(options or {})) for host in hosts}
        self._attend(run, started, attend)
        self._look_for_strikes()
        self._wish({})
        return run

    def start(self, host: str, session: str, **options: Any) -> Started:
        """Start a host's participant."""
        machines = self.hosts[host]
        arguments = self.receiver.options() | {
            "receiver_url": self.receiver.url.replace(LOOPBACK, address(host) if self.apart else LOOPBACK),
            "qmp_sockets": [machine.qmp for machine in machines],
            "session": session,
            "host": host,
            "scratch_dir": str(self.scratch),
            "stall_limit": STALL_LIMIT_S,
            "cut_hook": self._copy(session, machines),
        }
        return self.modules.start("backup", arguments | options, **{VARIABLE: str(self.wish(host))})

    def track_all(self) -> None:
        """Track all disks, as the role backup does before each session."""
        sockets = [machine.qmp for machine in self.machines]
        self.modules.run("tracking", {"qmp_sockets": sockets, "transient": True})

    def settle_receiver(self) -> None:
        """Have the receiver running, whatever has become of it."""
        self._nurse(Run())

    def _wish(self, faults: Mapping[str, str]) -> None:
        for actor in ("receiver", *self.hosts):
            Path(f"{self.wish(actor)}.struck").unlink(missing_ok=True)
            self.wish(actor).unlink(missing_ok=True)
            if actor in faults:
                self.wish(actor).write_text(faults[actor])

    def _look_for_strikes(self) -> None:
        for actor in ("receiver", *self.hosts):
            if Path(f"{self.wish(actor)}.struck").exists():
                self.struck.add(actor)

    def _copy(self, session: str, machines: Sequence[Machine]) -> str:
        target = self.directory / "truth" / session
        files = " ".join(str(each.path(image.name)) for each in machines for image in each.images)
        return f"sh -c 'mkdir -p {target} && cp {files} {target}'"

    def _open(self, run: Run, changes: Mapping[str, Any]) -> str | None:
        body: dict[str, Any] = {"group": self.receiver.group, "hosts": list(self.hosts)}
        body |= {"join_timeout_s": JOIN_TIMEOUT_S, "stop_budget_s": STOP_BUDGET_S, **changes}
        with _patience(self, run) as call:
            opened = call("POST", "/sessions", body)
        if opened is None or "id" not in opened:
            # its answer was lost; the operator looks whether it was opened
            return self._newest(run)
        return str(opened["id"])

    def _newest(self, run: Run) -> str | None:
        with _patience(self, run) as call:
            listed = call("GET", f"/sessions?group={self.receiver.group}&state=open&limit=1", None)
        sessions = (listed or {}).get("sessions", [])
        return str(sessions[0]["id"]) if sessions else None

    def _attend(
        self,
        run: Run,
        started: Mapping[str, Started],
        attend: Callable[[Run, Mapping[str, Started]], None],
    ) -> None:
        """See participants and session to their end, reviving the receiver when it has died."""
        deadline = time.monotonic() + STUCK_S
        while not self._over(run, started):
            if time.monotonic() > deadline:
                run.stuck += [host for host, each in started.items() if not self.modules.ended(each)]
                run.stuck += [] if run.states[-1:] in (["committed"], ["aborted"]) else ["session"]
                break
            self._nurse(run)
            attend(run, started)
            time.sleep(LOOK_S)
        for host, each in started.items():
            self._end(each)
            run.results[host] = each.result()
        while self.others:
            self._end(self.others.pop())

    def _end(self, started: Started) -> None:
        started.signal(signal.SIGKILL)
        self.modules.wait(started, 5)

    def _over(self, run: Run, started: Mapping[str, Started]) -> bool:
        everyone = all(self.modules.ended(each) for each in (*started.values(), *self.others))
        if run.session is None:
            return True
        with contextlib.suppress(OSError, ValueError):
            record = self.receiver.call("GET", f"/sessions/{run.session}", role="read", timeout=1.0)
            if "state" in record:
                if record["state"] not in run.states:
                    run.states.append(record["state"])
                run.reason = record["reason"]
                return everyone and record["state"] in ENDED
        return False

    def _nurse(self, run: Run) -> None:
        process = self.receiver.process
        assert process is not None
        if process.poll() is None and _stopped(process.pid):
            time.sleep(HANG_S)
            process.kill()
            process.wait()
        if process.poll() is not None:
            run.restarts += 1
            self._start_receiver()

    def _start_receiver(self) -> None:
        """Start it; a fault may strike again while it starts."""
        if self._at_restart:
            self._wish({"receiver": self._at_restart})
            self._at_restart = None
        try:
            self.receiver.start(hang_s=START_S)
        except (AssertionError, TimeoutError):
            self.receiver.kill()
            # what has not struck yet must not strike again
            self.wish("receiver").unlink(missing_ok=True)
            self.receiver.start()


@contextlib.contextmanager
def _patience(site: Site, run: Run) -> Iterator[Any]:
    """A call that survives a receiver which dies or hangs in it; None if there was no answer."""

    def call(method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            return site.receiver.call(method, path, body, timeout=HANG_S)
        except ConnectionError:
            # whoever is killed closes its connections a moment before it has ended
            site.receiver.wait_dead(DYING_S)
            site._nurse(run)
            return None
        except (OSError, ValueError):
            site._nurse(run)
            return None

    yield call


def address(host: str) -> str:
    """Where a host finds the receiver, if the hosts are apart: each has an address of the loopback."""
    return f"127.0.1.{host.removeprefix('hv')}"


def _stopped(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


@contextlib.contextmanager
def site(
    directory: Path, hosts: Mapping[str, Sequence[Machine]], number: int, *, apart: bool = False
) -> Iterator[Site]:
    """A site whose machines are made, tracked and writing.

    :param number: differs between the sites of a process, and with it their ports
    :param apart: each host has an address, and this process a network namespace, of its own
    """
    for name in ("tmp", "scratch", "truth", "receiver"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    machines = [machine for each in hosts.values() for machine in each]
    first = 20000 + (os.getpid() * 7 + number) % 300 * 2 * NBD_PORTS
    receiver = ReceiverProcess(
        directory / "receiver",
        settings={
            **SETTINGS,
            "nbd_ports": f"{first}-{first + NBD_PORTS}",
            "listen_host": "0.0.0.0" if apart else LOOPBACK,
            "nbd_listen": "0.0.0.0" if apart else LOOPBACK,
        },
        addresses=(LOOPBACK, *map(address, hosts)),
        environment={VARIABLE: str(directory / "receiver.fault"), "TMPDIR": str(directory / "tmp")},
    )
    writing = Writing(machines)
    with contextlib.ExitStack() as stack:
        for machine in machines:
            stack.callback(machine.kill)
            machine.create().start()
        starter = stack.enter_context(modules(directory / "tmp"))
        stack.enter_context(receiver)
        writer = stack.enter_context(writing.running())
        made = Site(directory, receiver, hosts, starter, writer, apart=apart)
        made.track_all()
        yield made
