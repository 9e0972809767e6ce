"""Limits per caller: accepted requests, refusals with Retry-After, and bounded memory."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import rate_limits as limits
from service.access.rate_limits import ConcurrencyLimit, RateLimit
from service.errors import RateLimited, TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def count_allowed(limit: RateLimit, caller: str, tries: int = 100) -> int:
    allowed = 0
    for _ in range(tries):
        try:
            limit.charge(caller)
        except RateLimited:
            continue
        allowed += 1
    return allowed


def test_a_minutes_share_may_be_used_at_once_and_no_more(clock: Clock) -> None:
    limit = RateLimit(6, clock=clock)
    assert count_allowed(limit, "a") == 6


def test_a_share_comes_back_evenly(clock: Clock) -> None:
    limit = RateLimit(6, clock=clock)
    count_allowed(limit, "a")
    clock.now += 9.9
    assert count_allowed(limit, "a") == 0
    clock.now += 0.1
    assert count_allowed(limit, "a") == 1
    clock.now += 60
    assert count_allowed(limit, "a") == 6


def test_one_callers_share_is_not_anothers(clock: Clock) -> None:
    limit = RateLimit(2, clock=clock)
    assert (count_allowed(limit, "a"), count_allowed(limit, "b")) == (2, 2)


def test_after_the_time_that_is_told_the_next_request_is_let_through(clock: Clock) -> None:
    limit = RateLimit(7, clock=clock)
    count_allowed(limit, "a")
    with pytest.raises(RateLimited, match=r"More than 7 requests a minute .* in 9 s") as refused:
        limit.charge("a")
    assert refused.value.retry_after_s == 9  # 60 / 7 = 8.6
    clock.now += 9
    limit.charge("a")


def test_several_photos_count_as_several_and_are_refused_together(clock: Clock) -> None:
    limit = RateLimit(10, clock=clock)
    limit.charge("a", 7)
    with pytest.raises(RateLimited):
        limit.charge("a", 4)
    limit.charge("a", 3)
    with pytest.raises(RateLimited, match="at most 10 photos in a request"):
        limit.charge("b", 11)


def test_what_is_done_is_charged_beyond_the_rate_and_waited_for(clock: Clock) -> None:
    limit = RateLimit(10, clock=clock)
    limit.charge("a", 9)
    limit.charge("a", 6, are_done=True)
    with pytest.raises(RateLimited) as refused:
        limit.charge("a")
    assert refused.value.retry_after_s == 36
    clock.now += 36
    limit.charge("a")
    limit.charge("b", 10)


def test_without_a_limit_nothing_is_counted() -> None:
    limit = RateLimit(0)
    limit.charge("a", 10**6)
    assert not limit._full_at


@given(gaps=st.lists(st.floats(0, 30), max_size=60), per_minute=st.integers(1, 9))
def test_no_minute_has_more_than_twice_and_no_long_time_more_than_its_share(
    gaps: list[float], per_minute: int
) -> None:
    clock, times = Clock(), []
    limit = RateLimit(per_minute, clock=clock)
    for gap in gaps:
        clock.now += gap
        try:
            limit.charge("a")
        except RateLimited:
            continue
        times.append(clock.now)
    for index, start in enumerate(times):
        for number, end in enumerate(times[index:], start=1):
            # A full share at the start, and what came back since.
            assert number <= per_minute + (end - start) * per_minute / 60 + 1e-6


def test_idle_callers_are_evicted_twice_as_fast_as_new_ones_arrive(clock: Clock) -> None:
    limit = RateLimit(60, clock=clock)
    for number in range(1000):
        limit.charge(f"caller {number}")
    clock.now += 2
    for number in range(500):
        limit.charge(f"other {number}")
    assert len(limit._full_at) == 500


def test_many_callers_at_once_do_not_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS", 100)
    limit = RateLimit(2, clock=clock)
    count_allowed(limit, "busy")
    for number in range(1000):
        limit.charge(f"caller {number}")
        if number % 50 == 0:
            count_allowed(limit, "busy")
    assert len(limit._full_at) == 100


@pytest.fixture
def two() -> Iterator[ConcurrencyLimit]:
    limit = ConcurrencyLimit(2)
    with limit.enter("a"), limit.enter("a"):
        yield limit
    assert not limit._num_running


def test_as_many_run_at_once_as_may(two: ConcurrencyLimit) -> None:
    with pytest.raises(TooManyRequests, match="2 requests are being answered") as refused, two.enter("a"):
        pytest.fail("a third was let in")
    assert refused.value.retry_after_s == 1
    with two.enter("b"):
        pass


def test_a_request_that_fails_leaves_its_place() -> None:
    limit = ConcurrencyLimit(1)
    with pytest.raises(ZeroDivisionError), limit.enter("a"):
        raise ZeroDivisionError
    with limit.enter("a"):
        pass


def test_without_a_limit_any_number_runs_at_once() -> None:
    limit = ConcurrencyLimit(0)
    with limit.enter("a"), limit.enter("a"):
        assert not limit._num_running
