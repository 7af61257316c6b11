# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that only talk to the receiver, against the answers of the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import ReceiverRefused
from ansible_collections.livebackup.qemu.plugins.module_utils._receiver import Receiver

EXAMPLES = Path(__file__).parents[3] / "contract/examples"
OPTIONS = {"receiver_url": "https://backup.example.com", "receiver_token": "lb_secret"}


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text())
    return found


class Api:
    """The narrow waist of HTTP: answers by method and path; refusals are named by their code."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any] | str] = {}
        self.calls: list[tuple[str, Any]] = []

    def call(self, method: str, path: str, body: Any = None, **dummy: Any) -> dict[str, Any]:
        self.calls.append((f"{method} {path}", body))
        answer = self.answers[f"{method} {path}"]
        if isinstance(answer, str):
            error = example(f"error-{answer}.response")["error"]
            raise ReceiverRefused(error["message"], code=error["code"], status=409)
        return answer


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    found = Api()
    monkeypatch.setattr(Receiver, "_call", lambda dummy, *args, **kwargs: found.call(*args, **kwargs))
    monkeypatch.setattr(
        "ansible_collections.livebackup.qemu.plugins.module_utils._receiver._tls", lambda dummy: None
    )
    return found


def test_open(call_module: Any, api: Api) -> None:
    api.answers["POST /sessions"] = example("session-open.response")
    asked = example("session-open.request")
    result = call_module(
        "session", **OPTIONS, group=asked["group"], hosts=asked["hosts"], consistency="filesystem"
    )
    assert result["changed"]
    assert result["session"] == example("session-open.response")
    assert api.calls[0][1].keys() == asked.keys()


def test_opening_is_foreseen_without_a_call(call_module: Any, api: Api) -> None:
    assert call_module("session", check=True, **OPTIONS, group="g", hosts=["h"])["changed"]
    assert api.calls == []


def test_a_busy_group_is_said_in_the_receivers_words(call_module: Any, api: Api) -> None:
    api.answers["POST /sessions"] = "group-busy"
    result = call_module("session", **OPTIONS, group="g", hosts=["h"])
    assert result["failed"]
    assert result["msg"] == example("error-group-busy.response")["error"]["message"]
    assert result["error"] == {"code": "group-busy", "status": 409}


def test_an_ended_session_stays_as_it_is(call_module: Any, api: Api) -> None:
    session = example("session-aborted.response")
    api.answers[f"GET /sessions/{session['id']}"] = session
    result = call_module("session", **OPTIONS, state="absent", id=session["id"])
    assert not result["changed"]
    assert result["session"] == session


def test_abort(call_module: Any, api: Api) -> None:
    before, after = example("session.response"), example("session-aborted.response")
    api.answers = {f"GET /sessions/{before['id']}": before, f"POST /sessions/{before['id']}/abort": after}
    result = call_module("session", **OPTIONS, state="absent", id=before["id"], reason="why")
    assert result["changed"]
    assert api.calls[-1][1] == {"reason": "why"}
    assert result["session"]["state"] == "aborted"


def test_lists(call_module: Any, api: Api) -> None:
    api.answers = {
        "GET /sessions?group=g&limit=50": example("sessions.response"),
        "GET /points?vm=db&limit=100": example("points.response"),
    }
    assert (
        call_module("session_info", **OPTIONS, group="g")["sessions"]
        == example("sessions.response")["sessions"]
    )
    assert call_module("point_info", **OPTIONS, vm="db")["points"] == example("points.response")["points"]


def test_one_of_each(call_module: Any, api: Api) -> None:
    api.answers = {"GET /sessions/S": example("session.response"), "GET /points/P": example("point.response")}
    assert call_module("session_info", **OPTIONS, id="S")["sessions"] == [example("session.response")]
    assert call_module("point_info", **OPTIONS, id="P")["points"] == [example("point.response")]


def test_an_unknown_point(call_module: Any, api: Api) -> None:
    api.answers["GET /points/P"] = "point-unknown"
    result = call_module("point_info", **OPTIONS, id="P")
    assert (result["failed"], result["error"]["code"]) == (True, "point-unknown")


@pytest.mark.parametrize("name", ["point_info", "session_info"])
def test_plain_http_is_refused(call_module: Any, name: str) -> None:
    result = call_module(name, **{**OPTIONS, "receiver_url": "http://backup.example.com"})
    assert "is not an https URL; give it as https://HOST:8440" in result["msg"]
