"""What `Accept` is answered with."""

import time
from urllib.parse import urlencode

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from service.errors import InvalidParameter
from service.http.request_params import (
    DEADLINE_HEADER,
    SynthesizeQuery,
    negotiate,
    read_deadline_ms,
    read_query,
)

OFFERS = ["image/png", "image/jpeg", "image/webp", "application/json"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "image/png"),
        ("image/jpg", "image/jpeg"),
        ("*", "image/png"),
        ("image/gif, *;q=0.1", "image/png"),
        ("a, " * 100 + "image/webp", None),  # browsers send ten
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("IMAGE/JPEG", "image/jpeg"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("image/png, application/json", "image/png"),
        ("image/png;q=0.4, application/json;q=0.5", "application/json"),
        ("image/*;q=0.9, image/webp", "image/webp"),
        ("image/png;q=0, */*", "image/jpeg"),
        ("image/*;q=0, */*;q=0.1", "application/json"),
        ("image/png;level=1;q=0.1, image/jpeg; q=0.2", "image/jpeg"),
        ("text/html,application/xhtml+xml,image/avif,image/webp,image/apng,*/*;q=0.8", "image/webp"),
        ("nonsense, image/webp", "image/webp"),
        ("image/png;q=2, image/webp", "image/webp"),
        ("image/png;q=nan, image/webp", "image/webp"),
        ("image/gif", None),
        ("text/html", None),
        ("nonsense", None),
        ("*/*;q=0", None),
        ("image/png;q=high", None),
        ("*/png", None),
        ("text/html, " * 40 + "image/jpeg", "image/jpeg"),
    ],
)
def test_accept_is_answered_with_what_it_likes_best(accept: str | None, expected: str | None) -> None:
    assert negotiate(accept, OFFERS) == expected


@given(st.text(alphabet="imagepnj/*;,q=.0159 -"))
def test_any_header_is_answered_with_an_offer_or_none(accept: str) -> None:
    assert negotiate(accept, OFFERS) in [*OFFERS, None]


def query(text: str) -> SynthesizeQuery:
    return read_query(Request({"type": "http", "query_string": text.encode()}), SynthesizeQuery)


def test_a_query_may_have_a_few_dozen_parameters() -> None:
    with pytest.raises(RequestValidationError):
        query("&".join(f"a{number}=1" for number in range(32)))
    with pytest.raises(InvalidParameter, match="more than 32 parameters"):
        query("&".join(f"a{number}=1" for number in range(33)))
    with pytest.raises(InvalidParameter, match="'eye' is given more than once"):
        query("eye=left&person=all&eye=left")


NUMERALS = ["+1", "1_0", " 1", "1 ", "1e0", "0x1", "1.", ".1", "٣", "¹", "１", "nan", "inf", ""]


@pytest.mark.parametrize("numeral", [*NUMERALS, "1.0"])
@pytest.mark.parametrize("name", ["person", "guesses", "seed"])
def test_numbers_are_written_in_digits(name: str, numeral: str) -> None:
    assert getattr(query(f"{name}=1"), name) == 1
    with pytest.raises(RequestValidationError, match="valid integer"):
        query(urlencode({name: numeral}))


@pytest.mark.parametrize("accept", ["a," * 16_000, "a;" * 16_000, "a/b;q=0.1," * 3000, "q=" * 16_000])
def test_a_long_accept_takes_no_time(accept: str) -> None:
    begin = time.process_time()
    negotiate(accept, OFFERS)
    assert time.process_time() - begin < 0.05


@pytest.mark.parametrize(("num_before", "chosen"), [(99, "image/webp"), (100, None)])
def test_later_media_ranges_of_accept_do_not_count(num_before: int, chosen: str | None) -> None:
    assert negotiate("a/b," * num_before + "image/webp", OFFERS) == chosen


@pytest.mark.parametrize(("sent", "deadline_ms"), [("50", 50), ("0.5", 0.5), ("9" * 400, 10_000)])
def test_a_deadline_shortens_that_of_the_settings_only(sent: str, deadline_ms: float) -> None:
    headers = [(DEADLINE_HEADER.lower().encode(), sent.encode())]
    assert read_deadline_ms(Request({"type": "http", "headers": headers}), 10_000) == deadline_ms


@pytest.mark.parametrize("numeral", [*NUMERALS, "0", "0.0", "-1"])
def test_a_deadline_is_a_number_in_digits_above_zero(numeral: str) -> None:
    headers = [(DEADLINE_HEADER.lower().encode(), numeral.encode())]
    with pytest.raises(InvalidParameter, match="number of milliseconds above 0"):
        read_deadline_ms(Request({"type": "http", "headers": headers}), 10_000)
