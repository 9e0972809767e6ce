"""API keys: which open, and what is said of the others."""

import hashlib

import pytest

from service.auth import KeyRing
from service.errors import Unauthorized

RING = KeyRing(
    [hashlib.sha256(key).hexdigest() for key in (b"first", b"second", "sch\u00fcssel".encode("latin-1"))]
)


def test_an_empty_ring_opens_to_everybody() -> None:
    KeyRing([]).check(None, None)
    KeyRing([]).check("anything")


@pytest.mark.parametrize("key", ["first", "second", "sch\u00fcssel"])
def test_every_key_of_the_ring_opens(key: str) -> None:
    RING.check(key)


def test_one_good_key_of_several_is_enough() -> None:
    RING.check("wrong", "second")
    RING.check(None, "first")


@pytest.mark.parametrize("key", ["First", "third", " ", RING.hashes[0]])
def test_another_key_does_not_open(key: str) -> None:
    with pytest.raises(Unauthorized, match="not known"):
        RING.check(key, None)


@pytest.mark.parametrize("key", [None, ""])
def test_no_key_is_told_apart_from_a_wrong_one(key: str | None) -> None:
    with pytest.raises(Unauthorized, match="No key was sent"):
        RING.check(key, None)
