# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away guest with the disks of a VM at a point, from the receiver's side.

Nothing that comes from it is trusted: lengths are limited, replies are checked by the models they become, and
every wait ends. A guest that has failed once is not asked again.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebackup_receiver import subprocesses
from livebackup_receiver.browse.appliance import kvm_is_there
from livebackup_receiver.browse.entries import (
    OWN_TREE,
    FileKind,
    FileSystem,
    Listing,
    Look,
    entry_of,
    file_system_of,
)
from livebackup_receiver.browse.framing import DATA, HEADER, LONGEST, text
from livebackup_receiver.browse.names import absolute, meant, shown
from livebackup_receiver.completion import complete
from livebackup_receiver.errors import (
    BrowseFailed,
    GuestBusy,
    GuestFileUnknown,
    GuestFileUnreadable,
    GuestFileUnsuitable,
    ReceiverError,
)
from livebackup_receiver.exports import Wanted

MEMORY_MIB = 768
END_S = 5.0
REFUSALS = {"absent": GuestFileUnknown, "no-file-system": GuestFileUnknown, "no-system": GuestFileUnknown}
Reply = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """Seconds for the start of a guest, and for one answer or part of a file."""

    start_s: float = 300.0
    answer_s: float = 120.0


USUAL = Limits()


class Guest:
    """A guest that has started; belongs to one event loop, and does one thing after another."""

    def __init__(self, wanted: Wanted, process: asyncio.subprocess.Process, limits: Limits) -> None:
        self._wanted = wanted
        self._process = process
        self._limits = limits
        self._turn = asyncio.Lock()
        self._header: tuple[bytes, int] | None = None
        self._failure: BrowseFailed | None = None
        self.file_systems: list[FileSystem] = []

    @property
    def failure(self) -> BrowseFailed | None:
        """Why it has ended, if it has."""
        if self._failure is None and self._process.returncode is not None:
            self._failure = self._failed(f"it {subprocesses.describe_end(self._process.returncode)}")
        return self._failure

    async def start(self, *, exports: Sequence[str], socket: Path, appliance: Path) -> None:
        """Start it with these disks.

        :raise BrowseFailed: it does not start
        """
        facts: Reply = {"exports": exports, "socket": str(socket), "appliance": str(appliance)}
        facts |= {"memory_mib": MEMORY_MIB, "kvm": kvm_is_there()}
        found = await self._ask("open", "the guest", limit_s=self._limits.start_s, **facts)
        disks = [each.disk for each in self._wanted.disks]
        with self._checked():
            self.file_systems = [file_system_of(each, disks) for each in found["file_systems"]]

    async def close(self) -> None:
        """End it, in order if it can."""
        await complete(self._end())

    async def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._process.wait()
        await subprocesses.kill_session(self._process)

    async def list(self, file_system: str, path: str, *, offset: int, limit: int) -> Listing:
        """A page of a directory.

        :param file_system: its name, or ``guest`` for what the guest itself mounts
        :raise GuestFileUnknown: there is no such file system or directory
        :raise GuestFileUnsuitable: it is no directory
        :raise GuestFileUnreadable: the file system is damaged
        :raise BrowseFailed: the guest is gone
        """
        where = self._where(file_system, path)
        what = f"{file_system}:{path}"
        found = await self._ask("page", what, offset=offset, limit=limit, **where)
        with self._checked():
            return Listing(
                file_system=file_system,
                path=shown(absolute(path)),
                entries=[entry_of(each) for each in found["entries"][:limit]],
                offset=offset,
                total=found["total"],
            )

    async def look(self, file_system: str, path: str) -> Look:
        """What a path leads to; raises the same, but for the kind."""
        found = await self._ask("look", f"{file_system}:{path}", **self._where(file_system, path))
        with self._checked():
            return Look.model_validate(found)

    @asynccontextmanager
    async def content(self, file_system: str, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a file, or of a tar archive of a directory; raises the same, also in the middle.

        Leaving the block early ends the transfer.
        """
        what, where = f"{file_system}:{path}", self._where(file_system, path)
        look = await self.look(file_system, path)
        most = sum(disk.virtual_size for disk in self._wanted.disks)
        if look.kind is FileKind.FILE and look.size > most:
            raise GuestFileUnsuitable(what, f"it claims {look.size:,} bytes, more than the disks have")
        if look.kind not in (FileKind.FILE, FileKind.DIRECTORY):
            raise GuestFileUnsuitable(what, f"it is a {look.kind}, which has no content to take out")
        command = "read" if look.kind is FileKind.FILE else "tar"
        async with self._my_turn():
            transfer = _Transfer(self, what, most)
            try:
                await self._send(command, where)
                yield transfer.parts()
            finally:
                await complete(transfer.end())

    def _where(self, file_system: str, path: str) -> Reply:
        if file_system == OWN_TREE:
            return {"device": "", "path": text(absolute(path))}
        if file_system not in [each.name for each in self.file_systems]:
            raise GuestFileUnknown(_line(file_system), f"VM {self._wanted.vm} has no such file system")
        kind, colon, device = meant(file_system).rpartition(b":")
        return {"device": text(kind + colon + b"/dev/" + device), "path": text(absolute(path))}

    async def _ask(self, command: str, what: str, *, limit_s: float | None = None, **facts: Any) -> Reply:
        async with self._my_turn():
            try:
                await self._send(command, facts)
                kind, body = await self.frame(limit_s)
            except asyncio.CancelledError:
                # Its answer would be taken for that of the next request.
                await self._give_up("a request to it was cut off")
                raise
            return self.reply(kind, body, what)

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        """:raise GuestBusy: somebody else's transfer takes too long"""
        try:
            async with asyncio.timeout(self._limits.answer_s):
                await self._turn.acquire()
        except TimeoutError:
            raise GuestBusy(self._wanted.vm) from None
        try:
            yield
        finally:
            self._turn.release()

    async def _send(self, command: str, facts: Reply) -> None:
        if self.failure:
            raise self.failure
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **facts}).encode() + b"\n")
        with suppress(ConnectionError):
            await self._process.stdin.drain()

    async def frame(self, limit_s: float | None = None) -> tuple[bytes, bytes]:
        """The next frame of an answer.

        :raise BrowseFailed: none comes
        """
        limit_s, out = limit_s or self._limits.answer_s, self._process.stdout
        assert out is not None
        try:
            async with asyncio.timeout(limit_s):
                # Whoever goes on after being cancelled in the middle finds the rest of the frame.
                self._header = self._header or HEADER.unpack(await out.readexactly(HEADER.size))
                kind, length = self._header
                if length > LONGEST:
                    raise self._failed("it sends more than it may")
                body, self._header = await out.readexactly(length), None
                return kind, body
        except TimeoutError:
            raise await self._give_up(f"it did not answer for {limit_s:g} seconds") from None
        except (asyncio.IncompleteReadError, struct.error):
            raise await self._give_up("its process has died") from None

    def reply(self, kind: bytes, body: bytes, what: str) -> Reply:
        """What an answer's last frame says; raises what it tells of."""
        with self._checked():
            said = json.loads(body)
            if "done" in said:
                done: Reply = said["done"]
                return done
            problem = _line(str(said.get("message") or said.get("failed") or said["died"]))
        if "refused" in said:
            raise REFUSALS.get(said["refused"], GuestFileUnsuitable)(what, problem)
        if "died" in said:
            raise self._failed(problem)
        raise GuestFileUnreadable(what, problem)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_dead(self) -> BrowseFailed:
        """Wait until it has ended; what to say about it if nobody asked for that."""
        end = subprocesses.describe_end(await self._process.wait())
        return self._failed(f"its process {end}")

    def interrupt(self) -> None:
        """End the transfer that goes on."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGUSR1)

    async def _give_up(self, problem: str) -> BrowseFailed:
        await complete(subprocesses.kill_session(self._process))
        return self._failed(problem)

    def _failed(self, problem: str) -> BrowseFailed:
        self._failure = self._failure or BrowseFailed(self._wanted.point, self._wanted.vm, problem)
        return self._failure

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """A worker that was taken over may say anything."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._failed("its answer makes no sense") from None


def _line(words: str) -> str:
    """What a guest says, as one harmless line; what follows its first line is advice for programmers."""
    first = (words.strip().splitlines() or [""])[0]
    return shown(first.strip(" .").encode("utf-8", "replace"))


class _Transfer:
    """The data frames of one answer, of which no more than ``most`` bytes and a tenth are taken."""

    def __init__(self, guest: Guest, what: str, most: int) -> None:
        self._guest = guest
        self._what = what
        self._left = most + most // 10 + (64 << 20)
        self._open = True

    async def parts(self) -> AsyncIterator[bytes]:
        while True:
            kind, body = await self._guest.frame()
            if kind != DATA:
                self._open = False
                self._guest.reply(kind, body, self._what)
                return
            self._left -= len(body)
            if self._left < 0:
                raise GuestFileUnsuitable(self._what, "it holds more than the disks have")
            yield body

    async def end(self) -> None:
        """Read on until the answer has ended, which is soon once it is interrupted."""
        if self._open and self._guest.failure is None:
            self._guest.interrupt()
            with suppress(ReceiverError):
                while (await self._guest.frame())[0] == DATA:
                    pass
