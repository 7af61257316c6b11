# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from sample_records import session

from livebackup_receiver.events import QUEUE_LENGTH, Feed, SessionChanged
from livebackup_receiver.model import SessionState


def change(state: SessionState = SessionState.JOINING) -> SessionChanged:
    return SessionChanged.of(session(state), entered=True)


async def test_every_subscriber_gets_everything_until_the_feed_closes() -> None:
    feed = Feed()
    with feed.subscribe() as first, feed.subscribe() as second:
        feed.publish(change())
        feed.publish(change(SessionState.PREPARING))
        feed.close()
        for subscription in (first, second):
            assert [event.state async for event in subscription] == ["joining", "preparing"]


async def test_who_subscribes_after_the_end_does_not_wait() -> None:
    feed = Feed()
    feed.close()
    with feed.subscribe() as late:
        assert [event async for event in late] == []


async def test_a_slow_subscriber_loses_its_oldest_events_and_holds_nobody_up() -> None:
    feed = Feed()
    with feed.subscribe() as slow:
        for dummy in range(QUEUE_LENGTH):
            feed.publish(change())
        feed.publish(change(SessionState.SEALING))
        feed.close()
        states = [event.state async for event in slow]
    assert len(states) == QUEUE_LENGTH - 1
    assert states[-1] == "sealing"


async def test_who_has_left_gets_nothing() -> None:
    feed = Feed()
    with feed.subscribe() as gone:
        pass
    feed.publish(change())
    feed.close()
    gone.put(None)
    assert [event async for event in gone] == []
