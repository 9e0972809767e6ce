"""How long a caller waits: the header X-Deadline-Ms, and whether the caller is still there."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from starlette.requests import ClientDisconnect, Request

from service.errors import InvalidParameter
from service.http.protocol import CALLER, Caller

HEADER: Final = "X-Deadline-Ms"

_NAME: Final = HEADER.lower().encode()

BRIEF_S: Final = 0.005
"""So long nobody asks whether the caller is still there."""


def read_deadline_ms(request: Request) -> float:
    """The milliseconds after which the caller has no use for an answer; infinite where it does not say.

    Raises:
        InvalidParameter: the header holds no number above 0.
    """
    sent = next((value for name, value in request.headers.raw if name == _NAME), None)
    if sent is None:  # most often; Starlette's get() raises an exception to find out
        return math.inf
    text = sent.decode("latin-1")
    try:
        deadline_ms = float(text)
    except ValueError:
        deadline_ms = math.nan
    if 0 < deadline_ms < math.inf:
        return deadline_ms
    raise InvalidParameter(f"{HEADER} is '{text[:40]}'; it must be a number of milliseconds above 0.")


@contextmanager
def noticing_leave(request: Request, leave: Callable[[Exception], None]) -> Iterator[None]:
    """Calls `leave` if the caller hangs up meanwhile; the body must have been read."""
    caller: Caller | None = request.scope.get("extensions", {}).get(CALLER)
    if caller is None:
        with _asking_for_leave(request, leave):
            yield
        return

    def leave_now() -> None:
        leave(ClientDisconnect())

    caller.when_left.add(leave_now)
    try:
        if caller.has_left:
            leave_now()
        yield
    finally:
        caller.when_left.discard(leave_now)


@contextmanager
def _asking_for_leave(request: Request, leave: Callable[[Exception], None]) -> Iterator[None]:
    """The same on a server that is not ours.

    What is done within `BRIEF_S` is over before anybody could save work, and a task costs more than a timer.
    """
    loop = asyncio.get_running_loop()
    watching: list[asyncio.Task[None]] = []
    timer = loop.call_later(
        BRIEF_S, lambda: watching.append(loop.create_task(_wait_for_leave(request, leave)))
    )
    try:
        yield
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()


async def _wait_for_leave(request: Request, leave: Callable[[Exception], None]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    leave(ClientDisconnect())
