# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that go wrong: every one ends with a reason, and leaves no daemon and no file."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from file_systems import small_file_system
from hypervisor import Hypervisor, back_up_together, compare, open_session
from serving import Served
from sqlalchemy.exc import OperationalError
from two_hosts import daemons, ended, files_of, make_disks, make_hosts

from livebackup_receiver.catalog.points import has_point
from livebackup_receiver.config import Config
from livebackup_receiver.model import ParticipantState, Session, SessionState, TransferState


async def require_nothing_left(server: Served, record: Session) -> None:
    """An aborted session: no point, no file, no daemon, and a reason that is in its last transition."""
    assert record.state is SessionState.ABORTED
    assert record.reason
    last = [each for each in record.transitions if each.subject == "session"][-1]
    assert (last.to, last.reason) == (SessionState.ABORTED, record.reason)
    assert {each.state for each in record.disks} <= {TransferState.FAILED}
    assert record.ended_at == last.at
    assert files_of(server, record.id) == []
    assert await daemons() == []
    with server.receiver.catalog.read() as db:
        assert not has_point(db, record.id)


async def open_and_join(
    client: httpx.AsyncClient, tmp_path: Path, **options: object
) -> tuple[str, Hypervisor]:
    """A session of hv1 alone, which has its plan."""
    hv1 = make_hosts(client, make_disks(tmp_path))[0]
    session = await open_session(client, ["hv1"], **options)
    assert (await hv1.join(session))["order"] == "prepare"
    return session, hv1


async def test_a_failed_participant_aborts_the_others(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1, hv2 = make_hosts(client, make_disks(tmp_path))
        session = await open_session(client, ["hv1", "hv2"])

        async def fail_after_cut() -> object:
            await hv2.join(session)
            await hv2.cut(session)
            return await hv2.step(session, "failed", {"reason": "VM web: the snapshot is broken"}, 0)

        first, dummy = await asyncio.gather(hv1.back_up(session), fail_after_cut())
        record = await ended(client, server, session)
    reason = "participant hv2 failed: VM web: the snapshot is broken; solve this and run the backup again"
    assert (first["order"], first["reason"]) == ("abort", reason)
    assert record.reason == reason
    assert {each.host: each.state for each in record.participants} == {"hv1": "finished", "hv2": "failed"}
    await require_nothing_left(server, record)


async def test_a_participant_that_fails_before_it_joins_aborts_the_others(
    server: Served, tmp_path: Path
) -> None:
    async with server.client() as client:
        hv1, hv2 = make_hosts(client, make_disks(tmp_path))
        session = await open_session(client, ["hv1", "hv2"], join_timeout_s=600)
        joining = asyncio.create_task(hv1.join(session))
        answer = await hv2.step(session, "failed", {"reason": "VM web: no disk is tracked"}, 0)
        joined = await joining
        record = await ended(client, server, session)
    reason = "participant hv2 failed: VM web: no disk is tracked; solve this and run the backup again"
    assert answer["order"] == joined["order"] == "abort"
    assert joined["reason"] == record.reason == reason
    await require_nothing_left(server, record)


async def test_hosts_that_do_not_join_are_named(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1", "hv2", "hv3"], join_timeout_s=0.2)
        answer = await hv1.join(session)
        record = await ended(client, server, session)
    assert answer["order"] == "abort"
    assert record.reason is not None
    assert record.reason.startswith("not joined within 0.2 seconds: hv2, hv3;")
    await require_nothing_left(server, record)


async def test_policy_each_goes_on_without_hosts_that_do_not_join(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    async with server.client() as client:
        hv1, hv2 = make_hosts(client, disks)
        session = await open_session(client, ["hv1", "hv2"], policy="each", join_timeout_s=0.2)
        assert (await hv1.back_up(session))["order"] == "finish"
        late = await hv2.join(session)
    assert (late["order"], late["reason"]) == ("abort", "not joined within 0.2 seconds: hv2")
    await compare(disks["db", "vd-a"], server.receiver.store.disk("db", "vd-a").layer(session))


class TestSilence:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        """A receiver that waits half a second for a word."""
        return config.model_copy(update={"silence_s": 0.5})

    async def test_a_silent_participant_aborts_the_session(self, server: Served, tmp_path: Path) -> None:
        async with server.client() as client:
            session, hv1 = await open_and_join(client, tmp_path)
            record = await ended(client, server, session)
            answer = await hv1.step(session, "prepared", {})
        assert record.reason == (
            "participant hv1 was silent for 0.5 seconds while it was joined; "
            "look at the host and its connection, then run the backup again"
        )
        assert (answer["order"], answer["reason"]) == ("abort", record.reason)
        await require_nothing_left(server, record)

    async def test_who_waits_for_an_order_is_not_silent(self, server: Served, tmp_path: Path) -> None:
        async with server.client() as client:
            hv1 = make_hosts(client, make_disks(tmp_path))[0]
            session = await open_session(client, ["hv1", "hv2"])
            assert (await hv1.join(session, wait_s=1.5))["order"] == "wait"
            assert (await client.get(f"/api/v1/sessions/{session}")).json()["state"] == "joining"

    async def test_who_hangs_up_while_waiting_is_silent_from_then_on(
        self, server: Served, tmp_path: Path
    ) -> None:
        async with server.client() as client:
            hv1 = make_hosts(client, make_disks(tmp_path))[0]
            session = await open_session(client, ["hv1", "hv2"])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hv1.join(session, wait_s=60), timeout=0.3)
            record = await ended(client, server, session)
        assert record.reason is not None
        assert record.reason.startswith("participant hv1 was silent")


@pytest.mark.parametrize("moment", ["joined", "cut", "transferred"])
async def test_a_killed_storage_daemon_aborts(server: Served, tmp_path: Path, moment: str) -> None:
    async with server.client() as client:
        session, hv1 = await open_and_join(client, tmp_path)
        if moment != "joined":
            await hv1.cut(session)
        if moment == "transferred":
            plan = (server.receiver.sessions.find(session) or pytest.fail("it runs")).plans["hv1"]
            planned = plan.model_dump(mode="json")
            disk = planned["vms"][0]["disks"][0]
            await hv1.send(planned["transport"], disk, hv1.vms["db"][disk["disk"]])
        (daemon,) = await daemons()
        os.kill(daemon, signal.SIGKILL)
        record = await ended(client, server, session)
        answer = await hv1.step(session, "prepared", {})
    assert record.reason is not None
    assert record.reason.startswith(
        f"the storage daemon of session {session} could not go on: it was killed by"
    )
    assert answer["order"] == "abort"
    await require_nothing_left(server, record)


async def test_abort_on_request_is_done_when_it_answers(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session, hv1 = await open_and_join(client, tmp_path)
        waiting = asyncio.create_task(hv1.step(session, "prepared", {}))
        answer = await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "not tonight"})
        record = Session.model_validate(answer.json())
        await require_nothing_left(server, record)
        again = await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "really not"})
        await waiting
    assert record.reason == "aborted on request: not tonight; run the backup again when you want it"
    assert again.json()["reason"] == record.reason


async def test_a_committed_session_cannot_be_aborted(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session = await back_up_together(client, make_hosts(client, make_disks(tmp_path)))
        answer = await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "too late"})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "session-committed"
    assert len(files_of(server, session)) == 9


async def test_a_participant_may_clean_up_after_the_abort(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session, hv1 = await open_and_join(client, tmp_path)
        await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "not tonight"})
        answer = await hv1.step(session, "finished", {"removed": [f"livebackup:{session}"]}, 0)
        record = await ended(client, server, session)
    assert answer["order"] == "leave"
    assert record.participants[0].state is ParticipantState.FINISHED
    assert record.transitions[-1].reason == f"removed livebackup:{session}"


async def test_a_vm_is_in_one_session_at_a_time(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session, hv1 = await open_and_join(client, tmp_path)
        other = await open_session(client, ["hv9"], group="weekly")
        thief = Hypervisor(client, "hv9", hv1.vms)
        answer = await thief.join(other)
        record = await ended(client, server, other)
    assert answer["error"]["code"] == "vm-busy"
    assert f"VM db already belongs to session {session}" in answer["error"]["message"]
    assert record.reason is not None
    assert "participant hv9 failed: VM db already belongs to" in record.reason


async def test_a_group_has_one_session_at_a_time(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session = await open_session(client, ["hv1"])
        answer = await client.post("/api/v1/sessions", json={"group": "nightly", "hosts": ["hv1"]})
        assert answer.status_code == 409
        assert session in answer.json()["error"]["message"]
        await client.post(f"/api/v1/sessions/{session}/abort", json={"reason": "make way"})
        await open_session(client, ["hv1"])


async def test_a_host_that_cannot_join_need_not_be_waited_for(server: Served, tmp_path: Path) -> None:
    disks = make_disks(tmp_path)
    disks["web", "vd-a"].tracked = False
    async with server.client() as client:
        hv1, hv2 = make_hosts(client, disks)
        session = await open_session(client, ["hv1", "hv2"])
        waiting, refused = await asyncio.gather(hv1.join(session), hv2.join(session))
        record = await ended(client, server, session)
    sentence = "VM web: no disk is tracked; run livebackup.qemu.tracking for it first"
    assert refused["error"]["message"] == sentence
    assert waiting["order"] == "abort"
    assert record.reason == f"participant hv2 failed: {sentence}; solve this and run the backup again"


async def test_the_last_participant_of_policy_each_aborts(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session, hv1 = await open_and_join(client, tmp_path, policy="each")
        await hv1.step(session, "failed", {"reason": "VM db: it is gone"}, 0)
        record = await ended(client, server, session)
    assert record.reason is not None
    assert record.reason.startswith("no participant is left: hv1: VM db: it is gone;")
    await require_nothing_left(server, record)


async def test_a_store_that_cannot_be_written_is_named(server: Served, tmp_path: Path) -> None:
    (server.receiver.store.vms / "db").write_text("a file where a directory should be")
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1"])
        assert (await hv1.join(session))["order"] == "abort"
        record = await ended(client, server, session)
    assert record.reason is not None
    assert record.reason.startswith(f"the store {server.receiver.store.root} cannot be used: ")
    await require_nothing_left(server, record)


async def test_policy_each_without_any_vm_left_aborts(server: Served, tmp_path: Path) -> None:
    async with server.client() as client:
        session, hv1 = await open_and_join(client, tmp_path, policy="each")
        await hv1.step(session, "prepared", {})
        await hv1.step(session, "stopped", {"vms": []})
        await hv1.step(session, "cut", {"vms": []})
        answer = await hv1.step(session, "transferred", {"disks": []})
        record = await ended(client, server, session)
    assert answer["order"] == "abort"
    assert record.reason == (
        "no participant is left: every VM was left out; solve this and run the backup again"
    )
    await require_nothing_left(server, record)


async def test_a_mistake_of_our_own_aborts_too(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("livebackup_receiver.coordinator.prepare.new_layers", mistake)
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1"])
        assert (await hv1.join(session))["order"] == "abort"
        record = await ended(client, server, session)
    assert record.reason == "the receiver failed; see the receiver's log"
    await require_nothing_left(server, record)


async def test_a_commit_that_the_catalog_does_not_take_aborts(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    monkeypatch.setattr("livebackup_receiver.catalog.journal.add_point", refuse)
    async with server.client() as client:
        hv1 = make_hosts(client, make_disks(tmp_path))[0]
        session = await open_session(client, ["hv1"])
        answer = await hv1.back_up(session)
        record = await ended(client, server, session)
    assert answer["order"] == "abort"
    assert record.reason is not None
    assert "does not answer: (builtins.Exception) database or disk is full" in record.reason
    await require_nothing_left(server, record)


class TestSmallStore:
    """The store, with the catalog in it, is a file system of 24 MiB."""

    @pytest.fixture
    def config(self, config: Config) -> Iterator[Config]:
        with small_file_system(config.store, "24m"):
            yield config

    async def test_a_session_that_cannot_fit_is_refused_at_planning(
        self, server: Served, tmp_path: Path
    ) -> None:
        disks = make_disks(tmp_path)
        async with server.client() as client:
            hv1 = make_hosts(client, disks)[0]
            report = hv1.report("db")
            report["disks"][0]["allocated_bytes"] = 1 << 40
            session = await open_session(client, ["hv1"])
            answer = await hv1.step(session, "joined", {"vms": [report]})
            record = await ended(client, server, session)
        assert answer["order"] == "abort"
        assert record.reason is not None
        assert record.reason.startswith(f"the store {server.receiver.config.store} needs 1,")
        await require_nothing_left(server, record)

    async def test_running_out_of_space_is_named(self, server: Served, tmp_path: Path) -> None:
        disks = make_disks(tmp_path)
        for key in (("db", "vd-a"), ("db", "vd-b")):
            disks[key].write(0, disks[key].size, 0x77)
        async with server.client() as client:
            hv1 = make_hosts(client, disks)[0]
            session = await open_session(client, ["hv1"])
            answer = await hv1.back_up(session)
            record = await ended(client, server, session)
        assert answer["order"] == "abort"
        assert record.reason is not None
        assert record.reason.startswith(f"the store {server.receiver.config.store} needs ")
        assert record.reason.endswith("free space in it or make it larger, then run the backup again")
        await require_nothing_left(server, record)

    async def test_the_next_session_has_room_again(self, server: Served, tmp_path: Path) -> None:
        disks = make_disks(tmp_path)
        disks["db", "vd-a"].write(0, disks["db", "vd-a"].size, 0x77)
        disks["db", "vd-b"].write(0, disks["db", "vd-b"].size, 0x77)
        async with server.client() as client:
            hv1, hv2 = make_hosts(client, disks)
            await hv1.back_up(await open_session(client, ["hv1"]))
            session = await open_session(client, ["hv2"])
            assert (await hv2.back_up(session))["order"] == "finish"
        await compare(disks["web", "vd-a"], server.receiver.store.disk("web", "vd-a").layer(session))


class TestReserve:
    """The store is a file system of 64 MiB, of which half must stay free."""

    @pytest.fixture
    def config(self, config: Config) -> Iterator[Config]:
        with small_file_system(config.store, "64m"):
            yield config.model_copy(update={"min_free_bytes": 32 << 20})

    async def test_a_session_that_uses_up_the_reserve_is_aborted(
        self, server: Served, tmp_path: Path
    ) -> None:
        async with server.client() as client:
            session, hv1 = await open_and_join(client, tmp_path)
            assert (await hv1.cut(session))["order"] == "transfer"
            (server.receiver.config.store / "something-else").write_bytes(bytes(40 << 20))
            record = await ended(client, server, session)
        assert record.reason is not None
        assert record.reason.startswith(f"the store {server.receiver.config.store} needs ")
        await require_nothing_left(server, record)
