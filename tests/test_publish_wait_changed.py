"""await topic.publish_wait() of a message that changes while it waits."""

import asyncio

import pytest
from test_publish_wait import KIB, PIECE, Run, Story, started, story

from fastws import LogFull


def test_a_message_that_has_grown_too_large_meanwhile_is_its_own_failure(run: Run) -> None:
    async def tell(at: Story) -> None:
        n, grows = await at.fill(), bytearray(2000)
        messages = [f"{n} {PIECE}", grows, f"{n} {PIECE}"]
        first, large, last = started(*[at.topic.publish_wait(each) for each in messages])
        await asyncio.sleep(0)
        grows.extend(bytes(2048 * KIB))
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        with pytest.raises(LogFull, match="larger than max_log_bytes"):
            await large
        assert await at.numbers(n + 1) == list(range(n + 1))
        await last

    story(run, tell, max_log_bytes=1024 * KIB)
