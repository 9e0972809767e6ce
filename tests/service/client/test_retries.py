"""The waits between retries, and when there is none."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from service.client.retries import RetryPolicy, retry_after_s

BUSY = httpx.Response(503)


def test_waits_grow_twofold_up_to_their_limit_and_half_of_each_is_chance() -> None:
    for _ in range(50):
        retry = RetryPolicy(max_tries=7, backoff_s=1, max_backoff_s=8)
        waits = [retry.wait_s(BUSY, num_tries) for num_tries in range(1, 7)]
        for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
            assert wait is not None
            assert longest / 2 <= wait <= longest
        assert retry.wait_s(BUSY, 7) is None


def test_callers_do_not_come_back_all_at_once() -> None:
    waits = {RetryPolicy(backoff_s=1).wait_s(BUSY, 1) for _ in range(20)}
    assert len(waits) > 10


def test_a_wait_that_leads_beyond_the_deadline_is_none() -> None:
    assert RetryPolicy(backoff_s=10, max_backoff_s=10).wait_s(BUSY, 1, left_s=1) is None
    assert RetryPolicy().wait_s(BUSY, 1, left_s=0) is None


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (httpx.Response(429), True),
        (httpx.Response(502), True),
        (httpx.Response(200), False),
        (httpx.Response(500, headers={"content-type": "application/problem+json"}), False),
        (httpx.Response(500, headers={"content-type": "text/plain"}), True),  # Ray's, when a node dies
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("nobody"), True),
        (httpx.RemoteProtocolError("left"), True),
        (httpx.ReadError("reset"), True),
        (httpx.ReadTimeout("slow"), False),
        (httpx.WriteTimeout("slow"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_only_what_patience_may_mend_is_tried_again(
    outcome: httpx.Response | httpx.TransportError, again: bool
) -> None:
    assert (RetryPolicy().wait_s(outcome, 1) is not None) == again


def test_retry_after_is_the_least_wait() -> None:
    asked = httpx.Response(503, headers={"Retry-After": "2"})
    wait = RetryPolicy(backoff_s=0.5).wait_s(asked, 1)
    assert wait is not None
    assert 2.25 <= wait <= 2.5


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 27 < retry_after_s({"retry-after": soon}) <= 30
    naive = format_datetime((datetime.now(UTC) + timedelta(seconds=30)).replace(tzinfo=None))
    assert 27 < retry_after_s({"retry-after": naive}) <= 30
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "soon",
        "-5",
        "1.5.2",
        "9" * 5000,
        "Foo, 99 Bar 2015 07:28:00",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
    ],
)
def test_a_retry_after_that_is_none_asks_for_nothing_or_for_very_long(nonsense: str) -> None:
    wait = retry_after_s({"retry-after": nonsense})
    assert wait == 0 or wait > 1e9
