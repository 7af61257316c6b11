# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process that a disk is read into to be compared with digests: nbdkit with a plugin of ours.

For internal use of livebackup.qemu only.

QEMU pushes the frozen disk into it over a connection that we make and hand to both. nbdkit serves that one
only, and ends with it or with us. It is watched like the connection to the receiver, since an NBD server that
hangs can make the VM hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from ansible_collections.livebackup.qemu.plugins.module_utils import _compare_plugin, _deps, _process
from ansible_collections.livebackup.qemu.plugins.module_utils._channel import Channel
from ansible_collections.livebackup.qemu.plugins.module_utils._compare_plugin import (
    CLUSTER_BYTES,
    DIGEST_BYTES,
    PULSE,
)
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import (
    ComparisonFailed,
    LivebackupError,
    OptionError,
)

NBDKIT = "nbdkit"
_REMEDY = "apply the role livebackup.qemu.hypervisor, which installs it"
_START_SECONDS = 10.0
_START_POLL_SECONDS = 0.02
_CHANGED = re.compile(rb"\0+")
_PYTHON = re.compile(r"^python_version=(\d+)\.(\d+)", re.MULTILINE)


class SinkChannel(Channel):
    """Our end of the connection; it has stalled if no request was answered for the limit."""

    def __init__(self, stream: socket.socket, proven: IO[bytes]) -> None:
        super().__init__(stream)
        self._proven = proven
        self._seen = (0, 0.0)

    def expect(self) -> None:
        """From now on requests come."""
        self._seen = (-1, time.monotonic())
        super().expect()

    def sent_bytes(self) -> int:
        """Nothing of it leaves the host."""
        return 0

    def pulse(self) -> int:
        """Grows with every request; 0 until nbdkit is ready."""
        count: int = PULSE.unpack(os.pread(self._proven.fileno(), PULSE.size, 0))[0]
        return count

    def shut_if_stalled(self, limit: float, now: float) -> None:
        """Shut the connection down if no request was answered for ``limit`` seconds."""
        if self._expecting_since is None:
            return
        pulse = self.pulse()
        if pulse != self._seen[0]:
            self._seen = (pulse, now)
        elif now - self._seen[1] > limit:
            self.stalled = True
            self.shut()


class Sink:
    """A running nbdkit for a disk of ``size`` bytes; ``digests`` is to be filled before data comes."""

    def __init__(self, size: int, directory: str) -> None:
        self.size = size
        self.clusters = -(-size // CLUSTER_BYTES)
        with contextlib.ExitStack() as stack:
            self.digests = stack.enter_context(_sparse_file(directory, self.clusters * DIGEST_BYTES))
            self._proven = stack.enter_context(_sparse_file(directory, PULSE.size + self.clusters))
            self._log = stack.enter_context(_sparse_file(directory, 0))
            ours, self._theirs = _connection()
            stack.enter_context(self._theirs)
            self.channel = SinkChannel(ours, self._proven)
            stack.callback(self.channel.close)
            stack.callback(self.channel.shut)
            self._stack = stack.pop_all()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """nbdkit's process id, while it may run."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start nbdkit. Raises DependencyError."""
        python = await _python()
        libraries = _libraries(python) if python else None
        script = self._stack.enter_context(_plugin_file())
        files = [script.fileno(), self.digests.fileno(), self._proven.fileno()]
        self._process = await _process.serve(
            [
                NBDKIT,
                "--single",
                "--exit-with-parent",
                "python",
                f"script=/proc/self/fd/{script.fileno()}",
                f"size={self.size}",
                f"digests={self.digests.fileno()}",
                f"proven={self._proven.fileno()}",
                f"libraries={libraries}",
            ],
            stream=self._theirs.fileno(),
            log=self._log.fileno(),
            pass_fds=files,
        )
        # the connection must end with nbdkit
        self._theirs.close()

    async def wait_ready(self) -> None:
        """Return when nbdkit serves: the VM stands still while QEMU connects. Raises ComparisonFailed."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.channel.pulse():
            if self.pid is None or time.monotonic() > deadline:
                self._log.seek(0)
                said = self._log.read().decode(errors="replace").strip().splitlines()
                raise ComparisonFailed(f"nbdkit does not start: {said[-1] if said else 'it says nothing'}")
            await asyncio.sleep(_START_POLL_SECONDS)

    def changed(self) -> Iterator[tuple[int, int]]:
        """Offset and length in bytes of what is not proven to be the same, up to the end of the disk."""
        self._proven.seek(PULSE.size)
        data = self._proven.read()
        for run in _CHANGED.finditer(data):
            start = run.start() * CLUSTER_BYTES
            yield start, min(run.end() * CLUSTER_BYTES, self.size) - start

    async def close(self) -> None:
        """End the process and forget everything; repeating it is harmless."""
        self._stack.close()
        if self._process is not None:
            await _process.end(self._process)


def _connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection within this host.

    A pair of UNIX sockets would not do: a QEMU that waits for room in one does not notice its shutdown.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname(), timeout=5.0)
        theirs, peer = server.accept()
        while peer != ours.getsockname():
            theirs.close()
            theirs, peer = server.accept()
    for end in (ours, theirs):
        end.setblocking(True)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def _sparse_file(directory: str, size: int) -> IO[bytes]:
    try:
        file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed with the sink
    except OSError as error:
        raise OptionError(
            f"The scratch directory {directory} cannot be used: {error.strerror}; create it or set "
            f"scratch_dir to another one.",
            scratch_dir=directory,
        ) from error
    file.truncate(size)
    return file


def _plugin_file() -> IO[bytes]:
    """The plugin as a file: a module of Ansible's runs from an archive that nbdkit cannot read."""
    spec = importlib.util.find_spec(_compare_plugin.__name__)
    source = spec.loader.get_source(_compare_plugin.__name__)  # type: ignore[union-attr]
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the sink
    file.write(source.encode())
    file.flush()
    return file


def _libraries(python: tuple[int, int]) -> str | None:
    """The directory from which this version of Python can import blake3, if there is one."""
    spec = importlib.util.find_spec("blake3") if python == sys.version_info[:2] else None
    if spec and spec.origin:
        return os.path.dirname(os.path.dirname(spec.origin))
    version = ".".join(map(str, python))
    ours = os.path.join(_deps.VENV, "lib", f"python{version}", "site-packages")
    return ours if os.path.isdir(os.path.join(ours, "blake3")) else None


async def _python() -> tuple[int, int] | None:
    """The version of nbdkit's Python. Raises DependencyError, ProgramFailed."""
    found = _PYTHON.search(await _process.run([NBDKIT, "python", "--dump-plugin"], timeout=10))
    return (int(found[1]), int(found[2])) if found else None


async def lacks() -> str | None:
    """What is missing on this host for a comparison, and what to do; None if nothing is."""
    for program in (NBDKIT, "qemu-io"):
        if shutil.which(program) is None:
            return f"{program} is not installed; {_REMEDY}"
    try:
        python = await _python()
    except LivebackupError:
        python = None
    if python is None:
        return f"nbdkit has no plugin for Python; {_REMEDY}"
    if _libraries(python) is None:
        version = ".".join(map(str, python))
        return f"the library blake3 is not installed for nbdkit's Python {version}; {_REMEDY}"
    return None
