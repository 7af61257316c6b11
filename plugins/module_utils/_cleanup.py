# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a participant does when its part is over, well or badly. For internal use of livebackup.qemu only."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ansible_collections.livebackup.qemu.plugins.module_utils import _reconcile, _stopped, _transfer
from ansible_collections.livebackup.qemu.plugins.module_utils._errors import LivebackupError
from ansible_collections.livebackup.qemu.plugins.module_utils._member import Result
from ansible_collections.livebackup.qemu.plugins.module_utils._steps import Dialogue, Report

if TYPE_CHECKING:
    from ansible_collections.livebackup.qemu.plugins.module_utils._participant import Participant

# for telling a receiver that may be the very cause of the failure
FAREWELL_SECONDS = 10.0


async def clean_up(participant: Participant, error: BaseException) -> None:
    """After a failure: resume first, tell the receiver so that nobody waits for us, then put all in order."""
    await _attempt(participant, participant.window.close())
    for channel in participant.channels:
        channel.shut()
    # the old client may still be in use by a thread that waits for an answer
    participant.receiver = participant.receiver.again()
    dialogue = Dialogue(participant.receiver, participant.settings.session, participant.settings.host)
    failed = Report("failed", {"reason": str(error).rstrip(".") or type(error).__name__})
    answer = await _attempt(participant, dialogue.say_within(failed, FAREWELL_SECONDS))
    # once it knows, it never commits disks that have not been transferred
    given_up = participant.settings.session if answer and not participant.transferred else None
    finished = Report("finished", {"removed": await put_in_order(participant, given_up)})
    await _attempt(participant, dialogue.say_within(finished, FAREWELL_SECONDS))


async def put_in_order(participant: Participant, given_up: str | None = None) -> list[str]:
    """Settle every VM of ours and return the bitmaps removed; problems become warnings."""
    for member in participant.members.everyone:
        await _transfer.stop_comparing(member)
    removed, problems = await _reconcile.settle_all(
        participant.monitors, participant.receiver, participant.settings.host, given_up=given_up
    )
    stopped = [member for member in participant.members.everyone if member.stopped]
    more = await _stopped.put_in_order(stopped, participant.receiver, participant.settings.host, given_up)
    participant.warnings += problems + more[1]
    return sorted({*removed, *more[0]})


async def _attempt(participant: Participant, act: Awaitable[Result]) -> Result | None:
    try:
        return await act
    except LivebackupError as error:
        participant.warnings.append(error.message)
        return None
