"""HTTP requests that are sent again where it may help, within one deadline; imports nothing of ours.

Tried again is what a moment's patience may mend: the connection was refused or lost, the answer says "not
now" (429, 502, 503), or it is a 500 of somebody between. Everything that is asked here can be asked twice
without harm.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

AttemptOutcome = httpx.Response | httpx.TransportError

RETRY_STATUSES: Final = frozenset({429, 502, 503})
"""Answers that mean "not now"; 502 is what a proxy says while the service behind it starts anew."""

_JITTER: Final = 0.5
"""The part of a wait that is left to chance, so that many callers do not come back all at once."""

_PROBLEM_JSON: Final = "application/problem+json"

MAX_RESPONSE_BYTES: Final = 100_000_000
"""More than any answer that is wanted here; a server that sends without end fills no memory."""


class ResponseTooLong(httpx.TransportError):
    """The answer goes on beyond every limit."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a caller is: one call makes `max_tries` requests and takes `deadline_s` at most.

    The n-th wait is `backoff_s` times 2^(n-1), at most `max_backoff_s`, of which half is left to chance. A
    `Retry-After` of the answer is the least wait; if it leads beyond the deadline, the call ends at once.
    """

    max_tries: int = 5
    deadline_s: float = 30.0
    backoff_s: float = 0.25
    max_backoff_s: float = 8.0
    statuses: frozenset[int] = RETRY_STATUSES


@dataclass(slots=True)
class RetryState:
    """The tries of one call, from the moment at which this is made."""

    retry: RetryPolicy
    num_failed: int = 0
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.retry.deadline_s

    @property
    def left_s(self) -> float:
        """Time until the deadline; zero or less when it is over."""
        return self._end - time.monotonic()

    def wait_s(self, outcome: AttemptOutcome) -> float | None:
        """How long to wait before the next try; None if this outcome is the last word."""
        if not self._may_pass(outcome):
            return None
        self.num_failed += 1
        if self.num_failed >= self.retry.max_tries:
            return None
        backoff = min(self.retry.max_backoff_s, self.retry.backoff_s * 2 ** (self.num_failed - 1))
        wait = backoff * (1 - _JITTER * random.random())
        if isinstance(outcome, httpx.Response):
            wait += retry_after_s(outcome.headers)
        return wait if wait < self.left_s else None

    def _may_pass(self, outcome: AttemptOutcome) -> bool:
        if isinstance(outcome, httpx.Response):
            return outcome.status_code in self.retry.statuses or _is_from_gateway(outcome)
        # Who does not answer in time may be at work: to ask again would double the load.
        return not isinstance(outcome, (httpx.ReadTimeout, httpx.WriteTimeout, ResponseTooLong))


def _is_from_gateway(answer: httpx.Response) -> bool:
    """Whether a 500 is not the service's, but of a proxy that lost it: Ray's says so when a node dies."""
    own = answer.headers.get("content-type", "").startswith(_PROBLEM_JSON)
    return answer.status_code == 500 and not own


BuildRequest = Callable[[RetryState], dict[str, Any]]
"""What httpx takes for the next try."""


def send(http: httpx.Client, options: BuildRequest, tries: RetryState) -> AttemptOutcome:
    """The last word: the whole answer, or why there is none."""
    while True:
        outcome = _try(http, options, tries)
        wait_s = tries.wait_s(outcome)
        if wait_s is None:
            return outcome
        time.sleep(wait_s)


async def send_async(http: httpx.AsyncClient, options: BuildRequest, tries: RetryState) -> AttemptOutcome:
    """As `send`."""
    while True:
        outcome = await _try_async(http, options, tries)
        wait_s = tries.wait_s(outcome)
        if wait_s is None:
            return outcome
        await asyncio.sleep(wait_s)


def _try(http: httpx.Client, options: BuildRequest, tries: RetryState) -> AttemptOutcome:
    try:
        with http.stream(**options(tries)) as response:
            body = bytearray()
            for chunk in response.iter_raw():
                _collect(chunk, body)
                if tries.left_s <= 0:  # a limit of silence alone would let an answer drip for ever
                    return httpx.ReadTimeout("The answer was still coming.")
            return _complete(response, body)
    except httpx.TransportError as error:
        return error


async def _try_async(http: httpx.AsyncClient, options: BuildRequest, tries: RetryState) -> AttemptOutcome:
    try:
        async with asyncio.timeout(tries.left_s), http.stream(**options(tries)) as response:
            body = bytearray()
            async for chunk in response.aiter_raw():
                _collect(chunk, body)
            return _complete(response, body)
    except TimeoutError:
        return httpx.ReadTimeout("The answer was still coming.")
    except httpx.TransportError as error:
        return error


def _collect(chunk: bytes, body: bytearray) -> None:
    body += chunk
    if len(body) > MAX_RESPONSE_BYTES:
        raise ResponseTooLong(f"more than {MAX_RESPONSE_BYTES:,} bytes came")


def _complete(response: httpx.Response, body: bytearray) -> httpx.Response:
    return httpx.Response(response.status_code, headers=response.headers, content=bytes(body))


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The wait that `Retry-After` asks for, in seconds or until a date; 0 if it asks for none or is none.

    Source: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:12])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
