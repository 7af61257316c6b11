# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a point through the API, out of real guests, which crash and expire."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import guest_disks
import httpx
import pytest
from sample_store import KIB, SampleStore, Write
from serving import Served, serving
from tls_files import TlsFiles

from livebackup_receiver import subprocesses
from livebackup_receiver.browse import appliance
from livebackup_receiver.browse.guest import Guest
from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.errors import BrowseFailed
from livebackup_receiver.model import Point, Role

pytestmark = pytest.mark.timeout(600)
# For a guest without KVM, on a machine with much else to do.
PATIENCE_S = 400.0


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"browse_limit": 1})


@pytest.fixture
def store(server: Served) -> SampleStore:
    return SampleStore(server.receiver.store.root, server.receiver.catalog)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return guest_disks.make_tree(tmp_path / "tree")


@pytest.fixture
def point(store: SampleStore, tree: Path, tmp_path: Path) -> Point:
    return guest_disks.add_disks(store, {"vd-a": guest_disks.ext4(tmp_path / "image", tree)})


async def open_files(client: httpx.AsyncClient, point: Point, vm: str = "db") -> dict[str, Any]:
    answer = await client.post(f"/api/v1/points/{point.id}/browses", json={"vm": vm})
    assert answer.status_code == 201, answer.text
    browse: dict[str, Any] = answer.json()
    return browse


def error(answer: httpx.Response) -> tuple[int, str]:
    assert "\n" not in answer.json()["error"]["message"]
    return answer.status_code, answer.json()["error"]["code"]


async def test_files_are_looked_at_and_taken_out(
    server: Served, store: SampleStore, point: Point, tree: Path
) -> None:
    other = store.add({("mail", "vd-a"): [Write(0, KIB, 1)]})
    async with server.client(Role.RESTORE) as client:
        client.timeout = httpx.Timeout(PATIENCE_S)
        browse = await open_files(client, point)
        assert (browse["state"], browse["problem"]) == ("starting", None)
        assert (await open_files(client, point))["id"] == browse["id"]
        refused = await client.post(f"/api/v1/points/{other.id}/browses", json={"vm": "mail"})
        assert error(refused) == (503, "browse-limit")
        here = f"/api/v1/browses/{browse['id']}"
        (found,) = (await client.get(f"{here}/file-systems")).json()["file_systems"]
        assert (found["name"], found["disk"], found["problem"]) == ("sda", "vd-a", None)
        assert (await client.get(here)).json()["state"] == "ready"
        listed = await client.get(f"{here}/entries?file_system=sda&path=/many&offset=2000&limit=3")
        assert [each["name"] for each in listed.json()["entries"]] == ["02000", "02001", "02002"]
        taken = await client.get(f"{here}/content", params={"file_system": "sda", "path": "/etc/random"})
        assert taken.content == (tree / "etc" / "random").read_bytes()
        assert taken.headers["content-disposition"] == "attachment; filename*=UTF-8''random"
        assert (taken.headers["content-type"], taken.headers["x-content-type-options"]) == (
            "application/octet-stream",
            "nosniff",
        )
        odd = {"file_system": "sda", "path": "/odd \\xff\\xfe \\x1b[2J"}
        assert (await client.get(f"{here}/content", params=odd)).content == guest_disks.ODD
        missing = await client.get(f"{here}/content?file_system=sda&path=/missing")
        assert error(missing) == (404, "guest-file-unknown")
        assert (await client.delete(here)).status_code == 204
        assert error(await client.get(here)) == (404, "browse-unknown")


async def test_a_guest_that_dies_takes_nothing_with_it(
    server: Served, point: Point, tree: Path, tmp_path: Path
) -> None:
    async with server.client(Role.RESTORE) as client:
        client.timeout = httpx.Timeout(PATIENCE_S)
        browse = await open_files(client, point)
        here = f"/api/v1/browses/{browse['id']}"
        await client.get(f"{here}/file-systems")
        for pid in await guest_processes():
            os.kill(pid, signal.SIGKILL)
        failed = await client.get(f"{here}/content?file_system=sda&path=/etc/random")
        assert error(failed) == (500, "browse-failed")
        assert "VM db at point" in failed.json()["error"]["message"]
        async with asyncio.timeout(60):
            while (state := (await client.get(here)).json())["state"] != "failed":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert "has ended" in state["problem"]
        assert (await client.get("/api/v1/health")).status_code == 200
        again = await open_files(client, point)
        assert again["id"] != browse["id"]
        taken = await client.get(f"/api/v1/browses/{again['id']}/content?file_system=sda&path=/etc/random")
        assert taken.content == (tree / "etc" / "random").read_bytes()
        async with server.receiver.browses.use(again["id"]) as guest:
            with pytest.raises(BrowseFailed):
                await kill_in_the_middle(guest)
        assert (await client.get("/api/v1/health")).status_code == 200


async def test_a_guest_that_nobody_uses_ends_by_itself(config: Config, tls: TlsFiles, tree: Path) -> None:
    short = config.model_copy(update={"browse_ttl_s": 0.2})
    async with open_receiver(short) as receiver, serving(receiver, tls) as server:
        store = SampleStore(receiver.store.root, receiver.catalog)
        point = guest_disks.add_disks(store, {"vd-a": guest_disks.ext4(tree.parent / "image", tree)})
        async with server.client(Role.RESTORE) as client:
            browse = await open_files(client, point)
            async with asyncio.timeout(PATIENCE_S):
                while (answer := await client.get(f"/api/v1/browses/{browse['id']}")).status_code == 200:
                    assert answer.json()["state"] != "failed", answer.text
                    await asyncio.sleep(0.05)
        assert error(answer) == (404, "browse-unknown")
        assert await guest_processes() == []


async def test_a_machine_without_the_means_says_what_to_install(
    server: Served, store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appliance, "SUPERMIN_DIRECTORIES", "/nowhere/*/supermin.d")
    point = store.add({("db", "vd-a"): [Write(0, KIB, 1)]})
    async with server.client(Role.RESTORE) as client:
        browse = await open_files(client, point)
        answer = await client.get(f"/api/v1/browses/{browse['id']}/file-systems")
        assert error(answer) == (503, "browse-unavailable")
        assert "libguestfs is not installed; install the packages libguestfs0" in answer.text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"vm": "mail"}, (404, "vm-unknown")),
        ({}, (422, "body-invalid")),
        ({"vm": "db", "writable": True}, (422, "body-invalid")),
    ],
)
async def test_a_wrong_request_starts_nothing(
    server: Served, store: SampleStore, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    point = store.add({("db", "vd-a"): [Write(0, KIB, 1)]})
    async with server.client(Role.RESTORE) as client:
        assert error(await client.post(f"/api/v1/points/{point.id}/browses", json=body)) == expected
        assert error(await client.get("/api/v1/browses/x")) == (404, "browse-unknown")


@pytest.mark.parametrize(
    ("role", "status"), [(None, 401), (Role.READ, 403), (Role.BACKUP, 403), (Role.MANAGE, 403)]
)
async def test_only_the_role_restore_may_see_contents(server: Served, role: Role | None, status: int) -> None:
    async with server.client(role) as client:
        answers = [
            await client.post("/api/v1/points/x/browses", json={"vm": "db"}),
            await client.get("/api/v1/browses/x"),
            await client.get("/api/v1/browses/x/file-systems"),
            await client.get("/api/v1/browses/x/entries?file_system=sda"),
            await client.get("/api/v1/browses/x/content?file_system=sda&path=/"),
            await client.delete("/api/v1/browses/x"),
        ]
    assert {answer.status_code for answer in answers} == {status}


async def kill_in_the_middle(guest: Guest) -> None:
    """Read a file whose guest dies after the first part."""
    async with guest.content("sda", "/etc/random") as parts:
        await anext(parts)
        for pid in await guest_processes():
            os.kill(pid, signal.SIGKILL)
        async for dummy in parts:
            pass


async def guest_processes() -> list[int]:
    """QEMUs of guests that this process has started."""
    argv = ["ps", "-e", "-o", "pid=,ppid=,comm="]
    rows = [line.split() for line in (await subprocesses.run(argv, timeout_s=20)).stdout.splitlines()]
    workers = {pid for pid, parent, *dummy in rows if parent == str(os.getpid())}
    return [
        int(pid) for pid, parent, name, *dummy in rows if parent in workers and name.startswith("qemu-sys")
    ]
