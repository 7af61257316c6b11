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


def test_a_point_with_the_order_in_which_its_vms_are_brought_up(call_module: Any, api: Api) -> None:
    point, order = example("point.response"), example("recovery-order.response")
    api.answers = {"GET /points/P": point, f"GET /points/{point['id']}/recovery-order": order}
    (shown,) = call_module("point_info", **OPTIONS, id="P", recovery_order=True)["points"]
    assert shown == {**point, "stages": order["stages"]}
    assert [[each["vm"] for each in stage] for stage in shown["stages"]] == [["db"], ["app"]]


def test_an_unknown_point(call_module: Any, api: Api) -> None:
    api.answers["GET /points/P"] = "point-unknown"
    result = call_module("point_info", **OPTIONS, id="P")
    assert (result["failed"], result["error"]["code"]) == (True, "point-unknown")


DECLARED = "PUT /policies/group%3Anightly"
PREVIEW = "POST /retention/preview"


def policy_api(api: Api) -> dict[str, Any]:
    """Answer as a receiver that has a policy for group:nightly; these are its rules."""
    api.answers = {
        "GET /policies": example("policies.response"),
        PREVIEW: example("retention-preview.response"),
        DECLARED: example("policy-declare.response"),
        "DELETE /policies/group%3Anightly": {},
    }
    rules = example("policy-declare.response")["policy"]
    return {name: value for name, value in rules.items() if value is not None}


def calls(api: Api) -> list[str]:
    return [call for call, dummy in api.calls]


def test_a_policy_that_is_declared_already(call_module: Any, api: Api) -> None:
    rules = policy_api(api)
    result = call_module("policy", **OPTIONS, scope="group:nightly", **rules)
    assert not result["changed"]
    assert result["policy"] == example("policy-declare.response")["policy"]
    assert DECLARED not in calls(api)


@pytest.mark.parametrize("check", [False, True])
def test_another_policy_and_what_it_drops(call_module: Any, api: Api, check: bool) -> None:
    policy_api(api)
    result = call_module("policy", check=check, **OPTIONS, scope="group:nightly", daily=7, weekly=4)
    assert result["changed"]
    assert result["drops"] == example("retention-preview.response")["after"]
    asked = dict(api.calls)[PREVIEW]
    assert asked["policies"][0].keys() == example("retention-preview.request")["policies"][0].keys()
    assert asked["policies"] == [{"scope": "group:nightly", "policy": result["policy"]}]
    sent = [body for call, body in api.calls if call == DECLARED]
    assert sent == ([] if check else [result["policy"]])
    assert result["policy"].keys() == example("policy-declare.request").keys()
    before, after = result["diff"]["before"], result["diff"]["after"]
    assert (before["policy"]["hourly"], after["policy"]["hourly"]) == (24, None)
    assert before["dropped now"] == []
    assert after["dropped now"] == ["01JD2M3V5W6X7Y8Z9A0B1C2D3E cut 2026-11-18T02:00:03.771Z"]


@pytest.mark.parametrize(("scope", "changed"), [("group:nightly", True), ("group:weekly", False)])
def test_a_policy_is_withdrawn_if_there_is_one(call_module: Any, api: Api, scope: str, changed: bool) -> None:
    policy_api(api)
    result = call_module("policy", **OPTIONS, scope=scope, state="absent")
    assert (result["changed"], result["policy"]) == (changed, None)
    assert ("DELETE /policies/group%3Anightly" in calls(api)) is changed


def test_the_scope_of_a_disk_stays_one_path(call_module: Any, api: Api) -> None:
    policy_api(api)
    api.answers["PUT /policies/disk%3Adb/vd-b"] = example("policy-declare.response")
    assert call_module("policy", **OPTIONS, scope="disk:db/vd-b", daily=3)["changed"]


def test_a_policy_without_a_rule_is_refused(call_module: Any, api: Api) -> None:
    result = call_module("policy", **OPTIONS, scope="group:nightly", minimum=3)
    assert "state is present but any of the following are missing: keep_last, keep_within" in result["msg"]
    assert api.calls == []


def test_what_the_receiver_says_of_a_policy(call_module: Any, api: Api) -> None:
    policy_api(api)
    api.answers[PREVIEW] = "retention-invalid"
    result = call_module("policy", **OPTIONS, scope="nightly", daily=3)
    assert (result["failed"], result["error"]["code"]) == (True, "retention-invalid")
    assert DECLARED not in calls(api)


@pytest.mark.parametrize("name", ["point_info", "session_info"])
def test_plain_http_is_refused(call_module: Any, name: str) -> None:
    result = call_module(name, **{**OPTIONS, "receiver_url": "http://backup.example.com"})
    assert "is not an https URL; give it as https://HOST:8440" in result["msg"]


PLAN = "/groups/nightly/recovery-plan"


def test_a_recovery_plan_that_is_declared_already(call_module: Any, api: Api) -> None:
    declared, asked = example("recovery-plan-declare.response"), example("recovery-plan-declare.request")
    api.answers = {f"GET {PLAN}": declared, f"PUT {PLAN}?dry_run=true": declared}
    result = call_module("recovery_plan", **OPTIONS, group="nightly", **asked)
    assert (result["changed"], result["plan"]) == (False, declared["plan"])
    assert dict(api.calls)[f"PUT {PLAN}?dry_run=true"] == asked


@pytest.mark.parametrize("check", [False, True])
def test_a_first_recovery_plan(call_module: Any, api: Api, check: bool) -> None:
    declared, asked = example("recovery-plan-declare.response"), example("recovery-plan-declare.request")
    api.answers = {f"GET {PLAN}": "recovery-plan-unknown"}
    api.answers |= {f"PUT {PLAN}?dry_run=true": declared, f"PUT {PLAN}": declared}
    result = call_module("recovery_plan", check=check, **OPTIONS, group="nightly", **asked)
    assert result["changed"]
    assert result["diff"]["before"] == {"plan": None}
    assert (f"PUT {PLAN}" in calls(api)) == (not check)
