"""What `Accept` is answered with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.request_params import negotiate

OFFERS = ["image/png", "image/jpeg", "image/webp", "application/json"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "image/png"),
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
