# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver as a process: killed, stopped and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest
from hypervisor import Hypervisor, back_up_together, compare, open_session
from receiver_process import ReceiverProcess, on_free_port, receiver_process, write_config
from two_hosts import KEYS, get_session, make_disks, make_hosts
from waiting import until

from livebackup_receiver.config import Config
from livebackup_receiver.daemon import open_receiver
from livebackup_receiver.errors import CommandFailed, ConfigInvalid, StoreBusy, StoreUnsupported
from livebackup_receiver.model import Role
from livebackup_receiver.store.paths import Store
from livebackup_receiver.subprocesses import run


@pytest.fixture
def config(config: Config) -> Config:
    return on_free_port(config)


async def gone(pids: list[int]) -> None:
    """Wait until these processes have ended."""

    async def look() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in pids)

    await until(look)


async def join(receiver: ReceiverProcess, tmp_path: Path) -> str:
    """A session of hv1 alone that has its plan, its layers and its storage daemon."""
    async with receiver.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1"])
        assert (await hv1.join(session))["order"] == "prepare"
    return session


def layers_in(config: Config) -> list[str]:
    return sorted(path.name for path in config.store.glob("vms/*/*/*"))


async def test_a_point_outlives_kill_right_after_the_answer(config: Config, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    async with receiver_process(config) as receiver, receiver.client() as client:
        hosts = make_hosts(client, disks)
        session = await open_session(client, ["hv1", "hv2"])
        answers = await asyncio.gather(*(_back_up_but_do_not_finish(host, session) for host in hosts))
        assert await receiver.end(signal.SIGKILL) == -signal.SIGKILL
    assert {answer["order"] for answer in answers} == {"finish"}
    async with receiver_process(config) as receiver, receiver.client(Role.READ) as client:
        points = (await client.get("/api/v1/points")).json()["points"]
        assert (await get_session(client, session)).state == "committed"
    assert [point["id"] for point in points] == [session]
    for key in KEYS:
        await compare(disks[key], Store(config.store).disk(*key).layer(session))


async def test_a_participant_finishes_with_the_receiver_started_again(config: Config, tmp_path: Path) -> None:
    async with receiver_process(config) as receiver, receiver.client() as client:
        session = await open_session(client, ["hv1"])
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        await _back_up_but_do_not_finish(hv1, session)
        await receiver.end(signal.SIGKILL)
    async with receiver_process(config) as receiver, receiver.client() as client:
        hv1.client = client
        sent = {"disks": [{"vm": "db", "disk": disk, "sent_bytes": 1} for disk in ("vd-a", "vd-b")]}
        assert (await hv1.step(session, "transferred", sent))["order"] == "finish"
        assert (await hv1.step(session, "finished", {"removed": []}))["order"] == "leave"
        assert (await get_session(client, session)).participants[0].state == "finished"


async def test_a_session_cut_off_by_a_kill_is_aborted_at_the_next_start(
    config: Config, tmp_path: Path
) -> None:
    async with receiver_process(config) as receiver:
        session = await join(receiver, tmp_path)
        daemons = await receiver.daemons()
        assert len(daemons) == 1
        assert f"{session}.partial" in layers_in(config)
        await receiver.end(signal.SIGKILL)
        await gone(daemons)
    async with receiver_process(config) as receiver, receiver.client() as client:
        record = await get_session(client, session)
        hv1 = Hypervisor(client, "hv1", {})
        answer = await hv1.step(session, "prepared", {})
    assert record.state == "aborted"
    assert record.reason is not None
    assert record.reason.startswith("the receiver was restarted while the session was ")
    assert (answer["order"], answer["reason"]) == ("abort", record.reason)
    assert layers_in(config) == []


async def test_a_kill_leaves_no_daemon_no_key_and_no_file_after_the_next_start(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setitem(os.environ, "TMPDIR", str(temporary))
    async with receiver_process(config) as receiver:
        await join(receiver, tmp_path)
        assert [path.name for path in config.store.glob("run/*/keys.psk")] == ["keys.psk"]
        daemons = await receiver.daemons()
        await receiver.end(signal.SIGKILL)
    async with receiver_process(config):
        await gone(daemons)
        assert list(config.store.glob("run/*")) == []
        assert list(temporary.iterdir()) == []
        assert layers_in(config) == []


async def test_a_daemon_that_outlived_its_receiver_is_ended_by_the_next_one(config: Config) -> None:
    directory = config.store / "run" / "livebackup-orphan"
    directory.mkdir(parents=True)
    with (directory / "stderr").open("wb") as stderr:
        orphan = await asyncio.create_subprocess_exec("qemu-storage-daemon", stderr=stderr)
    async with receiver_process(config):
        assert await asyncio.wait_for(orphan.wait(), 10) == -signal.SIGKILL
        assert not directory.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stopping_aborts_open_sessions_first(
    config: Config, tmp_path: Path, number: signal.Signals
) -> None:
    async with receiver_process(config) as receiver:
        async with receiver.client() as client:
            hv1 = make_hosts(client, make_disks(tmp_path))[0]
            session = await open_session(client, ["hv1", "hv2"])
            waiting = asyncio.create_task(hv1.join(session, wait_s=60))
            await until(lambda: _joined(client, session))
            daemons = await receiver.daemons()
            assert await receiver.end(number) == 0
            answer = await waiting
        await gone(daemons)
    assert answer["order"] == "abort"
    assert answer["reason"] == "the receiver was stopped while the session ran; run the backup again"
    assert layers_in(config) == []
    async with receiver_process(config) as receiver, receiver.client() as client:
        assert (await get_session(client, session)).reason == answer["reason"]


async def test_backups_go_on_after_a_restart(config: Config, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    async with receiver_process(config) as receiver, receiver.client() as client:
        first = await back_up_together(client, make_hosts(client, disks))
    disks["web", "vd-a"].write(0, 100_000, 0x11)
    async with receiver_process(config) as receiver, receiver.client() as client:
        second = await back_up_together(client, make_hosts(client, disks))
        record = await get_session(client, second)
    assert {disk.parent for disk in record.disks} == {first}
    await compare(disks["web", "vd-a"], Store(config.store).disk("web", "vd-a").layer(second))


async def test_two_receivers_do_not_share_a_store(config: Config) -> None:
    async with open_receiver(config):
        with pytest.raises(StoreBusy, match=f"the store {config.store} is in use by another receiver"):
            async with open_receiver(config):
                pass


async def test_a_port_that_is_taken_is_named(config: Config, tmp_path: Path) -> None:
    path = write_config(config, tmp_path / "receiver.toml")
    argv = [sys.executable, "-m", "livebackup_receiver", "serve", "--config", str(path)]
    with socket.create_server(("127.0.0.1", config.listen_port)), pytest.raises(CommandFailed) as caught:
        await run(argv, timeout_s=30)
    assert caught.value.returncode == ConfigInvalid.exit_code
    assert f"127.0.0.1 port {config.listen_port} cannot be used" in caught.value.stderr


async def test_a_missing_certificate_is_named(config: Config, tmp_path: Path) -> None:
    path = write_config(config.model_copy(update={"tls_key": tmp_path / "none.key"}), tmp_path / "r.toml")
    argv = [sys.executable, "-m", "livebackup_receiver", "serve", "--config", str(path)]
    with pytest.raises(CommandFailed) as caught:
        await run(argv, timeout_s=30)
    assert caught.value.returncode == ConfigInvalid.exit_code
    assert "tls_certificate" in caught.value.stderr


async def test_a_store_of_a_newer_format_is_left_alone(config: Config, tmp_path: Path) -> None:
    (config.store / "format.json").write_text('{"format": "livebackup-store", "version": 2}')
    path = write_config(config, tmp_path / "receiver.toml")
    argv = [sys.executable, "-m", "livebackup_receiver", "serve", "--config", str(path)]
    with pytest.raises(CommandFailed) as caught:
        await run(argv, timeout_s=30)
    assert caught.value.returncode == StoreUnsupported.exit_code
    assert caught.value.stderr.splitlines()[-1] == (
        f"livebackup-receiver: the store {config.store} cannot be used: it has version 2 of its format, and "
        "this receiver knows up to 1; install a livebackup-receiver as new as the one that made it"
    )
    assert not (config.store / "catalog.sqlite3").exists()


async def test_a_new_store_says_its_version(config: Config) -> None:
    async with receiver_process(config):
        pass
    assert json.loads((config.store / "format.json").read_text()) == {
        "format": "livebackup-store",
        "version": 1,
    }


async def test_systemd_is_told_when_the_receiver_is_ready(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        monkeypatch.setitem(os.environ, "NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with receiver_process(config) as receiver:
            assert await receiver.end(signal.SIGTERM) == 0
        assert [notify.recv(100), notify.recv(100)] == [b"READY=1", b"STOPPING=1"]


async def _back_up_but_do_not_finish(hypervisor: Hypervisor, session: str) -> dict[str, object]:
    plan = (await hypervisor.join(session))["plan"]
    await hypervisor.cut(session)
    return await hypervisor.transfer(session, plan)


async def _joined(client: httpx.AsyncClient, session: str) -> bool:
    record = await get_session(client, session)
    return bool(record.participants)
