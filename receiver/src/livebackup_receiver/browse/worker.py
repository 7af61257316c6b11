# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The child process that holds a throw-away guest: one JSON request a line, answered by frames.

It runs by itself (``python -m``), so that whatever a hostile disk does to it, the receiver reads its answers
only. SIGUSR1 ends a transfer. It ends when its input does.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from livebackup_receiver.browse import confinement
from livebackup_receiver.browse.framing import CHUNK, DATA, REPLY, frame, raw, text
from livebackup_receiver.browse.libguestfs import Guestfs, GuestfsError

Reply = dict[str, Any]
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
# What no mount is tried of.
ENCRYPTED = (b"crypto_LUKS", b"BitLocker")
NO_FILE_SYSTEM = (b"", b"unknown", b"swap", b"LVM2_member", b"linux_raid_member", *ENCRYPTED)
OWN_TREE = b""


class Refusal(Exception):
    """Something that was asked for is not there, or is of another kind."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Worker:
    """The guest and what is mounted in it: one file system at ``/``, or the guest's own tree."""

    def __init__(self, guest: Guestfs, out: BinaryIO) -> None:
        self._guest = guest
        self._out = out
        self._mounted: bytes | None = None
        self._listed: tuple[bytes, bytes] | None = None
        self._names: list[bytes] = []
        self._devices: dict[bytes, bytes] = {}
        self._own_tree: dict[bytes, bytes] | None = None

    def open(self, *, exports: list[str], socket: str, appliance: str, memory_mib: int, kvm: bool) -> Reply:
        """Start the guest with these disks; every file system in them."""
        guest = self._guest
        guest.call("set_backend", b"direct")
        guest.call("set_path", appliance.encode())
        guest.call("set_memsize", memory_mib)
        guest.call("set_autosync", 0)
        if not kvm:
            guest.call("set_backend_setting", b"force_tcg", b"1")
        for export in exports:
            guest.add_nbd(export.encode(), os.fsencode(socket))
        guest.call("launch")
        self._devices = guest.pairs("list_filesystems")
        return {"file_systems": [self._file_system(*each) for each in self._devices.items()]}

    @property
    def is_alive(self) -> bool:
        """Whether the guest still runs."""
        return bool(self._guest.call("is_ready"))

    def _file_system(self, device: bytes, kind: bytes) -> Reply:
        found: Reply = {"device": text(device), "type": text(kind), "label": "", "size": None, "used": None}
        found |= {"disk": self._disk_of(device), "problem": None}
        # A subvolume of btrfs has no size of its own.
        with suppress(GuestfsError):
            found["size"] = self._guest.call("blockdev_getsize64", device)
        if kind in NO_FILE_SYSTEM:
            return found
        try:
            self._mount(device)
            found["used"] = self._guest.used(b"/")
            found["label"] = text(self._guest.text("vfs_label", device))
        except GuestfsError as error:
            found["problem"] = str(error)
        return found

    def _disk_of(self, device: bytes) -> int | None:
        """The number of the disk it lies on, if it is a partition or a whole disk."""
        try:
            whole = self._guest.text("part_to_dev", device)
        except GuestfsError:
            whole = device
        try:
            return self._guest.call("device_index", whole)
        except GuestfsError:
            return None

    def _mount_own_tree(self) -> None:
        """Mount what the guest itself mounts; what is damaged of it is left out."""
        self._mounted = self._listed = None
        if self._own_tree is None:
            # Inspection unmounts everything, and takes its time.
            roots = self._guest.texts("inspect_os")
            self._own_tree = self._guest.pairs("inspect_get_mountpoints", roots[0]) if roots else {}
        if b"/" not in self._own_tree:
            raise Refusal("no-system", "no operating system is found in it; name a file system")
        self._guest.call("umount_all")
        self._guest.call("mount_ro", self._own_tree[b"/"], b"/")
        for at in sorted(self._own_tree, key=len)[1:]:
            with suppress(GuestfsError):
                self._guest.call("mount_ro", self._own_tree[at], at)
        self._mounted = OWN_TREE

    def page(self, *, device: str, path: str, offset: int, limit: int) -> Reply:
        """A page of a directory."""
        self._mount(raw(device))
        directory = raw(path)
        self._require(directory, "directory")
        if self._listed != (raw(device), directory):
            self._names = self._guest.names(directory)
            self._listed = raw(device), directory
        names = self._names[offset : offset + limit]
        return {"entries": self._entries(directory, names), "total": len(self._names)}

    def _entries(self, directory: bytes, names: list[bytes]) -> list[Reply]:
        if not names:
            return []
        entries: list[Reply] = []
        for name, found in zip(names, self._guest.stats(directory, names), strict=True):
            kind = KINDS.get(stat.S_IFMT(found.mode), "unknown") if found else "unknown"
            facts = found._asdict() if found else {}
            entries.append({"name": text(name), "kind": kind, "target": None, **facts})
        links = [each for each in entries if each["kind"] == "link"]
        targets = self._guest.links(directory, [raw(each["name"]) for each in links]) if links else []
        for each, target in zip(links, targets, strict=True):
            each["target"] = text(target)
        return entries

    def look(self, *, device: str, path: str) -> Reply:
        """Of what kind and size a file is, links followed within the guest."""
        self._mount(raw(device))
        try:
            found = self._guest.stat(self._guest.text("realpath", raw(path)))
        except GuestfsError as error:
            raise _absent(error) from None
        return {"kind": KINDS.get(stat.S_IFMT(found.mode), "unknown"), "size": found.size}

    def read(self, *, device: str, path: str) -> Reply:
        """The content of a file, in data frames."""
        self._mount(raw(device))
        self._require(raw(path), "file")
        return self._send(lambda pipe: self._guest.call("download", raw(path), pipe))

    def tar(self, *, device: str, path: str) -> Reply:
        """A directory with all below it as a tar archive, in data frames."""
        self._mount(raw(device))
        self._require(raw(path), "directory")
        return self._send(lambda pipe: self._guest.call("tar_out", raw(path), pipe))

    def _send(self, transfer: Callable[[bytes], object]) -> Reply:
        reader, writer = os.pipe()
        problems: list[GuestfsError] = []

        def fill() -> None:
            try:
                transfer(f"/dev/fd/{writer}".encode())
            except GuestfsError as error:
                problems.append(error)
            finally:
                os.close(writer)

        thread = threading.Thread(target=fill)
        thread.start()
        with open(reader, "rb", buffering=0) as pipe:
            while chunk := pipe.read(CHUNK):
                send(self._out, DATA, chunk)
        thread.join()
        if problems:
            raise problems[0]
        return {}

    def _require(self, path: bytes, kind: str) -> None:
        found = self.look(device=text(self._mounted or b""), path=text(path))["kind"]
        if found != kind:
            raise Refusal("kind", f"it is a {found}, and no {kind}")

    def _mount(self, device: bytes) -> None:
        if self._mounted == device:
            return
        if device == OWN_TREE:
            self._mount_own_tree()
            return
        if device not in self._devices:
            raise Refusal("no-file-system", "there is no such file system")
        self._mounted = self._listed = None
        self._guest.call("umount_all")
        self._guest.call("mount_ro", device, b"/")
        self._mounted = device


def _absent(error: GuestfsError) -> Exception:
    return Refusal("absent", "it does not exist") if error.errno in (errno.ENOENT, errno.ENOTDIR) else error


def send(out: BinaryIO, kind: bytes, body: bytes) -> None:
    """Send one frame at once."""
    out.write(frame(kind, body))
    out.flush()


def answer(worker: Worker, line: bytes) -> Reply:
    """Carry out one request."""
    request = json.loads(line)
    command = request.pop("command")
    try:
        return {"done": getattr(worker, command)(**request)}
    except Refusal as error:
        return {"refused": error.kind, "message": str(error)}
    except GuestfsError as error:
        return {"failed" if worker.is_alive else "died": str(error)}


def main() -> None:
    """Serve requests until there are no more."""
    readable, writable = (Path(each) for each in sys.argv[1:])
    guest, out = Guestfs(), sys.stdout.buffer
    signal.signal(signal.SIGUSR1, lambda *dummy: guest.cancel())
    confinement.limit_resources()
    confinement.close_in(readable=readable, writable=writable)
    worker = Worker(guest, out)
    for line in sys.stdin.buffer:
        said = answer(worker, line)
        send(out, REPLY, json.dumps(said).encode())
        if "died" in said:
            break
    guest.close()


if __name__ == "__main__":
    main()
