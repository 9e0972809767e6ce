"""How much one caller may ask for, in requests a minute and at once, and how much all may send at once.

Knows nothing of HTTP: a caller is a name, whatever it stands for. Memory is bounded: who asks for nothing
leaves no trace after a minute, and of more than `MAX_CALLERS` those who were quiet longest are forgotten.
"""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.errors import Overloaded, RateLimited, TooManyRequests

MAX_CALLERS: Final = 10_000

_MINUTE_S: Final = 60.0
_LARGE_PART: Final = 64
"""A body is large from this part of all on: from 4 MB on where the service has 2 GB."""

_FINISHED_SOON_S: Final = 1
"""What is told to wait for where a request of the same caller must end first: nobody knows when it will."""


class RateLimit:
    """So many requests a minute for each caller: all of them at once, or spread, but never more.

    What was used comes back evenly, not at the turn of a minute. Per caller one number is kept: the time at
    which everything will have come back. Source: generic cell rate algorithm, ITU-T I.371, annex A.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` of 0 sets no limit."""
        self._per_minute = per_minute
        self._clock = clock
        self._restored_at: OrderedDict[str, float] = OrderedDict()

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self._per_minute > 0

    def charge(self, caller: str, num_requests: int = 1) -> None:
        """Counts the requests against the caller.

        Raises:
            RateLimited: they are more than it has left; nothing is counted then.
        """
        if not self.is_set:
            return
        now = self._clock()
        restored_at = max(now, self._restored_at.get(caller, now))
        restored_at += num_requests * _MINUTE_S / self._per_minute
        wait_s = restored_at - now - _MINUTE_S
        if wait_s > 1e-6:  # the sums above are rounded
            raise self._refusal(num_requests, wait_s)
        self._restored_at[caller] = restored_at
        self._restored_at.move_to_end(caller)
        self._forget(now)

    def _refusal(self, num_requests: int, wait_s: float) -> RateLimited:
        retry_s = math.ceil(wait_s)
        if num_requests > self._per_minute:
            advice = f"Send at most {self._per_minute} photos in a request."
        else:
            advice = f"Send the next one in {retry_s} s."
        return RateLimited(
            f"More than {self._per_minute} requests a minute were sent. {advice}", retry_after_s=retry_s
        )

    def _forget(self, now: float) -> None:
        """Lets go of a few who have everything back; the one who asked longest ago stands first."""
        for _ in range(2):  # faster than they come
            caller = next(iter(self._restored_at))
            if self._restored_at[caller] > now and len(self._restored_at) <= MAX_CALLERS:
                return
            del self._restored_at[caller]

    @property
    def num_callers(self) -> int:
        """How many callers are remembered."""
        return len(self._restored_at)


class ConcurrencyLimit:
    """So many requests at once for each caller."""

    def __init__(self, at_once: int) -> None:
        """`at_once` of 0 sets no limit."""
        self._at_once = at_once
        self._num_running: Counter[str] = Counter()

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self._at_once > 0

    @contextmanager
    def enter(self, caller: str) -> Iterator[None]:
        """Counts a request of the caller while the context lasts.

        Raises:
            TooManyRequests: as many as it may have are running.
        """
        if not self.is_set:
            yield
            return
        if self._num_running[caller] >= self._at_once:
            raise TooManyRequests(
                f"{self._at_once} requests are being answered, and no more are taken at once. "
                "Send the next one when one of them is answered.",
                retry_after_s=_FINISHED_SOON_S,
            )
        self._num_running[caller] += 1
        try:
            yield
        finally:
            self._num_running[caller] -= 1
            if not self._num_running[caller]:
                del self._num_running[caller]

    @property
    def num_callers(self) -> int:
        """How many callers have a request running."""
        return len(self._num_running)


class UploadMemoryLimit:
    """So many bytes of bodies at once: of those that come in, wait and are worked on.

    Beyond them large bodies are refused, and any beyond twice as many, so that a few who send much and slowly
    do not keep small photos out. One alone may have any number. For one event loop.
    """

    def __init__(self, num_bytes: int) -> None:
        self.most = num_bytes
        self.large = num_bytes // _LARGE_PART
        self.num_held = 0

    @contextmanager
    def hold(self) -> "Iterator[BodyReservation]":
        """A body that takes no room any more once the context is left."""
        body = BodyReservation(self)
        try:
            yield body
        finally:
            self.num_held -= body.num_bytes


class BodyReservation:
    """One body, as far as it has come."""

    __slots__ = ("_limit", "num_bytes")

    def __init__(self, limit: UploadMemoryLimit) -> None:
        self._limit = limit
        self.num_bytes = 0

    def grow(self, num_bytes: int) -> None:
        """Counts what has come.

        Raises:
            Overloaded: it is more than there is room for.
        """
        limit = self._limit
        self.num_bytes += num_bytes
        limit.num_held += num_bytes
        if limit.num_held <= limit.most or limit.num_held == self.num_bytes:
            return
        if self.num_bytes > limit.large or limit.num_held > 2 * limit.most:
            raise Overloaded(
                f"Bodies of {limit.num_held:,} bytes are being received or worked on; there is no room for "
                "more. Send the photo again after the time that Retry-After names, or make it smaller."
            )
