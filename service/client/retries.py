"""Retries of idempotent HTTP requests: exponential backoff with jitter, Retry-After, one deadline.

Transient failures are retried: refused or lost connections, status 429, 502 and 503, and 500 from a gateway.
`stamina` checks its timeout only after a sleep, so a long Retry-After would outlast the deadline; with
that and the backoff in a hook of ours, only its loop would be used.
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
"""Status codes to retry; a proxy answers 502 while the service behind it restarts."""

_JITTER: Final = 0.5
"""Random part of a wait, so that clients do not retry at the same time."""

_PROBLEM_JSON: Final = "application/problem+json"

MAX_RESPONSE_BYTES: Final = 100_000_000
"""Limit of a response, against servers that send without end."""


class ResponseTooLong(httpx.TransportError):
    """The response is longer than MAX_RESPONSE_BYTES."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_tries` requests within `deadline_s`.

    The n-th wait is `backoff_s` times 2^(n-1), at most `max_backoff_s`, half of it random. `Retry-After` is
    added; a wait beyond the deadline ends the call at once.
    """

    max_tries: int = 5
    deadline_s: float = 30.0
    backoff_s: float = 0.25
    max_backoff_s: float = 8.0
    statuses: frozenset[int] = RETRY_STATUSES


@dataclass(slots=True)
class RetryState:
    """Attempts and deadline of one call, which starts now."""

    retry: RetryPolicy
    num_failed: int = 0
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.retry.deadline_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; zero or less once it is over."""
        return self._end - time.monotonic()

    def wait_s(self, outcome: AttemptOutcome) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if not self._is_transient(outcome):
            return None
        self.num_failed += 1
        if self.num_failed >= self.retry.max_tries:
            return None
        backoff = min(self.retry.max_backoff_s, self.retry.backoff_s * 2 ** (self.num_failed - 1))
        wait = backoff * (1 - _JITTER * random.random())
        if isinstance(outcome, httpx.Response):
            wait += retry_after_s(outcome.headers)
        return wait if wait < self.left_s else None

    def _is_transient(self, outcome: AttemptOutcome) -> bool:
        if isinstance(outcome, httpx.Response):
            return outcome.status_code in self.retry.statuses or _is_from_gateway(outcome)
        # A slow service may be working on the request: a retry would double its load.
        return not isinstance(outcome, (httpx.ReadTimeout, httpx.WriteTimeout, ResponseTooLong))


def _is_from_gateway(answer: httpx.Response) -> bool:
    """Whether a 500 is from a gateway: Ray's proxy answers it when a node dies."""
    own = answer.headers.get("content-type", "").startswith(_PROBLEM_JSON)
    return answer.status_code == 500 and not own


BuildRequest = Callable[[RetryState], dict[str, Any]]
"""Builds the arguments of `httpx.Client.stream` for the next attempt."""


def send(http: httpx.Client, options: BuildRequest, tries: RetryState) -> AttemptOutcome:
    """The last response, or the error of the last attempt."""
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
                if tries.left_s <= 0:  # a read timeout alone allows a response that drips
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
    """The seconds that `Retry-After` asks for, as a number or a date; 0 if it is missing or invalid.

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
