"""How long an answer is wanted: the header X-Deadline-Ms, and whether the caller is still connected."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.requests import ClientDisconnect, Request

from service.errors import InvalidParameter

HEADER: Final = "X-Deadline-Ms"

GRACE_S: Final = 0.005
"""How long work may take before anybody watches for a disconnect: a task costs more than a timer."""


def read_deadline_ms(request: Request) -> float:
    """The milliseconds after which the caller has no use for an answer; infinite without the header.

    Raises:
        InvalidParameter: the header holds no number above 0.
    """
    text = request.headers.get(HEADER)
    if text is None:
        return math.inf
    try:
        deadline_ms = float(text)
    except ValueError:
        deadline_ms = math.nan
    if 0 < deadline_ms < math.inf:
        return deadline_ms
    raise InvalidParameter(f"{HEADER} is '{text[:40]}'; it must be a number of milliseconds above 0.")


@contextmanager
def cancel_on_disconnect(request: Request) -> Iterator[None]:
    """Cancels what the current task awaits inside if the caller disconnects; the body must have been read.

    Raises:
        ClientDisconnect: the caller did.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    watchers: list[asyncio.Task[None]] = []
    disconnected = False

    async def watch() -> None:
        nonlocal disconnected
        while (await request.receive())["type"] != "http.disconnect":
            pass
        disconnected = True
        task.cancel()

    timer = loop.call_later(GRACE_S, lambda: watchers.append(loop.create_task(watch())))
    try:
        yield
    except asyncio.CancelledError:
        if not disconnected:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()
