"""Limits per caller of the request rate and of concurrent requests.

Knows nothing of HTTP: a caller is any string. Memory is bounded: idle callers are evicted after a minute, and
beyond `MAX_CALLERS` the least recent.
"""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.errors import RateLimited, TooManyRequests

MAX_CALLERS: Final = 10_000

_MINUTE_S: Final = 60.0


class RateLimit:
    """Requests a minute for each caller, as a token bucket of one minute's requests, refilled evenly.

    Stores one number a caller: when its bucket will be full.
    Source: generic cell rate algorithm, ITU-T I.371, annex A.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` of 0 sets no limit."""
        self._per_minute = per_minute
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self._per_minute > 0

    def charge(self, caller: str, num_requests: int = 1, *, are_done: bool = False) -> None:
        """Charges requests to the caller; done ones, whatever its rate, so that its next ones wait for them.

        Raises:
            RateLimited: they exceed its rate; nothing is charged then.
        """
        if not self.is_set:
            return
        now = self._clock()
        full_at = max(now, self._full_at.get(caller, now)) + num_requests * _MINUTE_S / self._per_minute
        wait_s = full_at - now - _MINUTE_S
        if wait_s > 1e-6 and not are_done:  # sums are rounded
            raise self._refusal(num_requests, wait_s)
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        self._evict(now)

    def _refusal(self, num_requests: int, wait_s: float) -> RateLimited:
        retry_s = math.ceil(wait_s)
        if num_requests > self._per_minute:
            advice = f"Send at most {self._per_minute} photos in a request."
        else:
            advice = f"Send the next one in {retry_s} s."
        return RateLimited(
            f"More than {self._per_minute} requests a minute were sent. {advice}", retry_after_s=retry_s
        )

    def _evict(self, now: float) -> None:
        """Evicts callers with a full bucket, or too many, from the least recent on."""
        for _ in range(2):  # faster than they are added
            caller = next(iter(self._full_at))
            if self._full_at[caller] > now and len(self._full_at) <= MAX_CALLERS:
                return
            del self._full_at[caller]


class ConcurrencyLimit:
    """Concurrent requests of each caller."""

    def __init__(self, at_once: int) -> None:
        """`at_once` of 0 sets no limit."""
        self._at_once = at_once
        self._num_running: Counter[str] = Counter()

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self._at_once > 0

    def check(self, caller: str) -> None:
        """Raises TooManyRequests if the caller is at its limit."""
        if self.is_set and self._num_running[caller] >= self._at_once:
            raise TooManyRequests(
                f"{self._at_once} requests are being answered, and no more are taken at once. "
                "Send the next one when one of them is answered."
            )

    @contextmanager
    def enter(self, caller: str) -> Iterator[None]:
        """Counts a request of the caller while the context lasts.

        Raises:
            TooManyRequests: the caller is at its limit.
        """
        if not self.is_set:
            yield
            return
        self.check(caller)
        self._num_running[caller] += 1
        try:
            yield
        finally:
            self._num_running[caller] -= 1
            if not self._num_running[caller]:
                del self._num_running[caller]
