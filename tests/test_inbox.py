"""The queue of one coroutine: order, credit, cancellation, the wake-up in place; both loops."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from fastws._inbox import Inbox
from fastws.errors import ConnectionClosedError, ConnectionClosedOK

Run = Callable[[Any], Any]


def inbox(limit: int = 16, renewed: list[int] | None = None) -> Inbox[Any]:
    given = [] if renewed is None else renewed
    return Inbox(asyncio.get_running_loop(), limit, lambda *, after: given.append(after))


def test_items_come_in_order_whether_or_not_somebody_waits(run: Run) -> None:
    async def case() -> None:
        box, got = inbox(), []
        box.put(None, 0)
        box.put(None, 1)

        async def receive() -> None:
            async for item in box.receive:
                got.append(item)

        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        assert got == [0, 1]
        assert box.waited_for
        box.put(None, 2)
        box.end(ConnectionClosedOK(1000))
        await task
        assert got == [0, 1, 2]

    run(case())


def test_outside_of_tasks_the_receiver_runs_before_put_returns(run: Run) -> None:
    async def case() -> None:
        box, got, done = inbox(), [], asyncio.Event()

        async def receive() -> None:
            async for item in box.receive:
                got.append(item)
                assert asyncio.current_task() is task

        task = asyncio.create_task(receive())
        await asyncio.sleep(0)

        def from_the_loop() -> None:
            for item in range(3):
                box.put(None, item)
                assert got[-1] == item
            done.set()

        asyncio.get_running_loop().call_soon(from_the_loop)
        await done.wait()
        box.end(ConnectionClosedOK(1000))
        await task

    run(case())


def test_in_a_task_the_receiver_runs_a_round_later(run: Run) -> None:
    async def case() -> None:
        box = inbox()
        task = asyncio.create_task(_once(box))
        await asyncio.sleep(0)
        box.put(None, "a")
        assert not task.done()
        assert await task == "a"

    run(case())


async def _once(box: Inbox[Any]) -> Any:
    return await box.receive


def test_the_receiver_runs_in_the_context_of_its_task(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def case() -> None:
        box, seen = inbox(), []

        async def receive() -> None:
            variable.set("mine")
            async for _ in box.receive:
                seen.append(variable.get())

        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(box.put, None, "a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen == ["mine"]
        assert variable.get() == "none"
        box.end(ConnectionClosedOK(1000))
        await task

    run(case())


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_cancelled_receive_loses_nothing(run: Run, when: str) -> None:
    async def case() -> None:
        box = inbox()
        task = asyncio.create_task(_once(box))
        await asyncio.sleep(0)
        if when == "before":
            task.cancel()
            box.put(None, "a")
        else:
            box.put(None, "a")
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(box) == 1
        assert await box.receive == "a"

    run(case())


def test_a_receive_can_have_a_time_limit(run: Run) -> None:
    async def case() -> None:
        box = inbox()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_once(box), 0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await box.receive
        box.put(None, "a")
        assert await asyncio.wait_for(_once(box), 1) == "a"
        assert len(box) == 0

    run(case())


def test_a_second_receive_at_once_is_an_error_and_harms_nobody(run: Run) -> None:
    async def case() -> None:
        box = inbox()
        task = asyncio.create_task(_once(box))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another coroutine waits"):
            await box.receive
        box.put(None, "a")
        assert await task == "a"

    run(case())


def test_what_is_behind_the_items_is_raised_after_them_and_again(run: Run) -> None:
    async def case() -> None:
        box = inbox()
        box.put(None, "a")
        box.end(ConnectionClosedError(1006))
        assert await box.receive == "a"
        for _ in range(2):
            with pytest.raises(ConnectionClosedError):
                await box.receive
        with pytest.raises(ConnectionClosedError):
            async for _ in box.receive:
                pass

    run(case())


def test_an_end_wakes_who_waits(run: Run) -> None:
    async def case() -> None:
        box = inbox()
        task = asyncio.create_task(_once(box))
        await asyncio.sleep(0)
        box.end(ConnectionClosedOK(1001))
        with pytest.raises(ConnectionClosedOK):
            await task

    run(case())


def test_credit_is_renewed_by_what_is_taken_and_never_exceeds_the_limit(run: Run) -> None:
    async def case() -> None:
        renewed: list[int] = []
        box = inbox(8, renewed)
        may_come = 8
        for i in range(1000):
            while may_come and len(box) < 8 and i % 3:
                box.put(None, i)
                may_come -= 1
            if len(box):
                before = len(renewed)
                await box.receive
                if len(renewed) > before:
                    may_come = renewed[-1]
            assert may_come + len(box) <= 8
            if not may_come and not len(box):
                pytest.fail("nothing may come any more")
            if not len(box) and not i % 3:
                box.put(None, i)
                may_come -= 1
        assert len(renewed) > 50

    run(case())


def test_a_receiver_that_interrupts_the_program_is_heard(run: Run) -> None:
    async def case() -> None:
        box, heard = inbox(), asyncio.Event()

        async def receive() -> None:
            await box.receive
            raise SystemExit(3)

        task = asyncio.create_task(receive())
        await asyncio.sleep(0)

        def from_the_loop() -> None:
            with pytest.raises(SystemExit):
                box.put(None, "a")
            heard.set()

        asyncio.get_running_loop().call_soon(from_the_loop)
        await heard.wait()
        with pytest.raises(SystemExit):
            task.result()

    run(case())
