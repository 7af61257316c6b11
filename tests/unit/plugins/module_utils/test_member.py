# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies: whether one VM's error is everybody's."""

from __future__ import annotations

import pytest
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import AgentError
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Member, Members


def members(policy: str, *names: str) -> Members:
    vms = [type("NamedVm", (), {"name": name})() for name in names]
    return Members(policy, [Member(None, vm, None) for vm in vms])


async def fail_app(member: Member) -> str:
    if member.name == "app":
        raise AgentError("app is silent")
    return member.name


async def test_all_done() -> None:
    assert await members("all", "db", "web").do(fail_app) == ["db", "web"]


async def test_all_fail_together_under_all() -> None:
    with pytest.raises(AgentError):
        await members("all", "db", "app", "web").do(fail_app)


async def test_under_each_the_others_go_on() -> None:
    group = members("each", "db", "app", "web")
    assert await group.do(fail_app) == ["db", "web"]
    assert [member.name for member in group.present] == ["db", "web"]
    assert [(member.name, error.message) for member, error in group.failed] == [("app", "app is silent")]
    # it may stand still and must run again like the others
    assert {member.name for member in group.everyone} == {"db", "app", "web"}


async def test_the_last_one_fails_the_host() -> None:
    with pytest.raises(AgentError):
        await members("each", "app").do(fail_app)


async def test_mistakes_of_ours_are_never_hidden() -> None:
    async def stumble(member: Member) -> None:
        raise KeyError(member.name)

    with pytest.raises(KeyError):
        await members("each", "db", "web").do(stumble)
