"""The driver: when it takes the turns of its engine."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from fastws.server.driver import Driver

Run = Callable[[Any], Any]


class Turns:
    """An engine that notes in which round of the loop its turns are taken."""

    inherited = foreign = False
    schedule: Callable[[], None] | None = None

    def __init__(self, more: int) -> None:
        self.event = os.eventfd(1, os.EFD_NONBLOCK)  # readable: each round reports it
        self.rounds: list[int] = []
        self.round = 0
        self.more = more  # turns that leave work

    def fileno(self) -> int:
        return self.event

    def turn(self, *, poll: bool) -> bool:
        self.rounds.append(self.round)
        self.more -= 1
        return self.more > 0


def test_there_is_one_turn_in_a_round_of_the_loop(run: Run) -> None:
    """Whether it is due, because work was left, or the descriptor is readable, or both."""

    async def case() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        engine = Turns(more=5)
        driver = Driver(engine)  # type: ignore[arg-type]

        def begin_round() -> None:
            engine.round += 1
            if engine.round == 20:
                done.set()
                return
            loop.call_soon(begin_round)  # it stands first in the next round
            if engine.round == 12:
                driver.turn_soon()  # as a publish asks for it

        begin_round()
        driver.start()
        await done.wait()
        driver.stop()
        os.close(engine.event)
        assert len(engine.rounds) == len(set(engine.rounds)) >= 15

    run(case())
