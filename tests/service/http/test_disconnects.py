"""Disconnects: what a task awaits is canceled when its caller leaves, and nothing else is."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from service.http.routes.photos import GRACE_S, cancel_on_disconnect


class Caller:
    """A connection: it may be closed, and says so to whoever waits for its messages."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def request(self) -> Request:
        return Request({"type": "http", "headers": []}, self.receive)


def run(scenario: Callable[[Caller], Any]) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario(Caller()), 20)

    asyncio.run(main())


def test_work_is_cancelled_when_its_caller_disconnects() -> None:
    async def scenario(caller: Caller) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2 * GRACE_S, caller.left.set)
        with pytest.raises(ClientDisconnect), cancel_on_disconnect(caller.request):
            await answer
        assert answer.cancelled()
        await asyncio.sleep(0)  # the task itself goes on

    run(scenario)


def test_a_caller_who_left_before_the_work_began_is_noticed() -> None:
    async def scenario(caller: Caller) -> None:
        caller.left.set()
        with pytest.raises(ClientDisconnect), cancel_on_disconnect(caller.request):
            await asyncio.Event().wait()

    run(scenario)


def test_a_task_that_others_cancel_is_cancelled() -> None:
    async def scenario(caller: Caller) -> None:
        async def work() -> None:
            with cancel_on_disconnect(caller.request):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)


def test_work_that_is_done_is_watched_no_longer() -> None:
    async def scenario(caller: Caller) -> None:
        with cancel_on_disconnect(caller.request):
            await asyncio.sleep(2 * GRACE_S)
        caller.left.set()
        await asyncio.sleep(0.02)
        assert len(asyncio.all_tasks()) <= 2  # this one, and the one that waits for it

    run(scenario)
