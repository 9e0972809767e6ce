"""How long a caller waits: the header X-Deadline-Ms, and whether the caller is still there."""

import math
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect, Request

from service.errors import InvalidParameter

HEADER: Final = "X-Deadline-Ms"


def read_deadline_ms(request: Request) -> float:
    """The milliseconds after which the caller has no use for an answer; infinite where it does not say.

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


async def wait_for_leave(request: Request, leave: Callable[[Exception], None]) -> None:
    """Calls `leave` once the caller has hung up; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    leave(ClientDisconnect())
