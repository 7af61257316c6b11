# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""session, session_info and point_info against a real receiver."""

from __future__ import annotations

import threading
from typing import Any

import backups
import modules
from machine import Machine
from modules import run, succeed
from receiving import ReceiverProcess


def session(receiver: ReceiverProcess, **options: Any) -> dict[str, Any]:
    return succeed("session", **receiver.options(), **options)


def open_session(receiver: ReceiverProcess, **options: Any) -> str:
    return str(session(receiver, group=receiver.group, hosts=["hv1"], **options)["session"]["id"])


def test_open_and_abort(receiver: ReceiverProcess) -> None:
    asked = {"group": receiver.group, "hosts": ["hv1", "hv2"], "policy": "each", "stop_budget": 2.5}
    foreseen = session(receiver, **asked, check=True)
    assert (foreseen["changed"], foreseen["session"]) == (True, None)
    opened = session(receiver, **asked)
    record = opened["session"]
    assert opened["changed"]
    assert (record["state"], record["policy"], record["hosts"]) == ("joining", "each", ["hv1", "hv2"])
    for check, changed in ((True, True), (False, True), (False, False), (True, False)):
        aborted = session(receiver, state="absent", id=record["id"], reason="not today", check=check)
        assert aborted["changed"] is changed
        assert aborted["session"]["state"] == "aborted"
        assert "not today" in aborted["session"]["reason"]
    assert "not today" in receiver.session(record["id"])["reason"]


def test_a_group_is_aborted_by_its_name(receiver: ReceiverProcess) -> None:
    session_id = open_session(receiver)
    assert session(receiver, state="absent", group=receiver.group)["session"]["id"] == session_id
    nothing = session(receiver, state="absent", group=receiver.group)
    assert (nothing["changed"], nothing["session"]) == (False, None)


def test_a_busy_group(receiver: ReceiverProcess) -> None:
    first = open_session(receiver)
    arguments = {**receiver.options(), "group": receiver.group, "hosts": ["hv1"]}
    refused = run("session", **arguments)
    assert refused["error"]["code"] == "group-busy"
    assert first in refused["msg"]
    threading.Timer(2, receiver.abort, [first]).start()
    assert succeed("session", **arguments, wait=30)["session"]["state"] == "joining"


def test_what_is_missing_is_said(receiver: ReceiverProcess) -> None:
    assert "missing" in run("session", **receiver.options())["msg"]
    assert "any of the following" in run("session", **receiver.options(), state="absent")["msg"]


def test_sessions_are_listed(receiver: ReceiverProcess) -> None:
    first = open_session(receiver)
    receiver.abort(first)
    second = open_session(receiver)
    options = receiver.options("read")
    listed = succeed("session_info", **options, group=receiver.group)["sessions"]
    assert [each["id"] for each in listed] == [second, first]
    ended = succeed("session_info", **options, group=receiver.group, state="ended")["sessions"]
    assert [each["id"] for each in ended] == [first]
    (one,) = succeed("session_info", **options, id=second, check=True)["sessions"]
    assert one["state"] == "joining"


def test_points_are_listed(small_vm: Machine, receiver: ReceiverProcess) -> None:
    backups.track(small_vm)
    point = backups.back_up(small_vm, receiver)["point"]
    options = receiver.options("read")
    for chosen in ({"id": point}, {"group": receiver.group}, {"vm": small_vm.name}):
        (found,) = succeed("point_info", **options, **chosen)["points"]
        assert (found["id"], found["complete"], found["vms"][0]["vm"]) == (point, True, small_vm.name)
    unknown = run("point_info", **options, id="01JD50BR1C8Q2W3E4R5T6Y7V8A")
    assert unknown["error"]["code"] == "point-unknown"
    assert unknown["error"]["status"] == 404


def test_a_wrong_token_is_refused_with_the_receivers_words(receiver: ReceiverProcess) -> None:
    options = {**receiver.options(), "receiver_token": "wrong"}
    refused = run("session_info", **options)
    assert refused["error"]["status"] == 401
    assert "refuses the token from receiver_token: the token is unknown" in refused["msg"]
    # a token for backups may not read points
    refused = run("point_info", **receiver.options("backup"))
    assert refused["error"]["status"] == 403


def test_the_token_may_be_in_a_file(receiver: ReceiverProcess, tmp_path: Any) -> None:
    options = receiver.options("read")
    token = options.pop("receiver_token")
    (tmp_path / "token").write_text(token + "\n")
    assert "sessions" in succeed("session_info", **options, receiver_token_path=str(tmp_path / "token"))
    missing = run("session_info", **options, receiver_token_path=str(tmp_path / "none"))
    assert "give receiver_token or receiver_token_path" in missing["msg"]


def test_a_certificate_that_is_not_trusted(receiver: ReceiverProcess) -> None:
    options = {**receiver.options("read"), "receiver_ca_path": "/etc/ssl/certs/ca-certificates.crt"}
    refused = run("session_info", **options)
    assert refused["error"]["code"] == "receiver-untrusted"
    assert "cannot be trusted: " in refused["msg"]
    assert "CERTIFICATE_VERIFY_FAILED" not in refused["msg"]
    assert "run livebackup.qemu.deploy" in refused["msg"]


def test_plain_http_is_refused(receiver: ReceiverProcess) -> None:
    refused = run("session_info", **{**receiver.options("read"), "receiver_url": "http://127.0.0.1:1"})
    assert "is not an https URL" in refused["msg"]


def test_secrets_are_not_shown(receiver: ReceiverProcess) -> None:
    running = modules.start("session_info", **receiver.options("read"))
    assert receiver.tokens["read"] not in str(running.result())
