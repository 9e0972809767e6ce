"""When an idempotent HTTP request is sent again: exponential backoff with jitter, Retry-After, one deadline.

Transient failures are retried: refused or lost connections, status 429, 502 and 503, and 500 from a gateway.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

TryOutcome = httpx.Response | httpx.TransportError

RETRY_STATUSES: Final = frozenset({429, 502, 503})
"""Status codes to retry; a proxy answers 502 while the service behind it restarts."""


class ResponseRefused(httpx.TransportError):
    """The response is too long, or compressed, which was not asked for."""


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

    def wait_s(self, outcome: TryOutcome, num_tries: int, left_s: float = math.inf) -> float | None:
        """Seconds until the next try after so many with this outcome; None if there is none."""
        if num_tries >= self.max_tries or not self._is_transient(outcome):
            return None
        wait_s = self.backoff_after_s(num_tries)
        if isinstance(outcome, httpx.Response):
            wait_s += retry_after_s(outcome.headers)
        return wait_s if wait_s < left_s else None

    def backoff_after_s(self, num_tries: int) -> float:
        """The wait after so many tries, partly random so that clients do not come back at the same time."""
        longest = min(self.max_backoff_s, self.backoff_s * 2.0 ** min(num_tries - 1, 30))
        return longest * random.uniform(0.5, 1)

    def _is_transient(self, outcome: TryOutcome) -> bool:
        if isinstance(outcome, httpx.Response):
            # Ray's proxy answers 500 when a node dies.
            from_gateway = outcome.status_code == 500 and not is_problem(outcome)
            return outcome.status_code in self.statuses or from_gateway
        # A slow service may be working on the request: a retry would double its load.
        return not isinstance(outcome, (httpx.ReadTimeout, httpx.WriteTimeout, ResponseRefused))


def is_problem(response: httpx.Response) -> bool:
    """Whether the response says that it is a problem of RFC 9457, as the service's errors are."""
    media_type: str = response.headers.get("content-type", "")
    return media_type.partition(";")[0] == "application/problem+json"


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds that `Retry-After` asks for, as a number or a date; 0 if it is missing or invalid.

    Source: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:12])
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
