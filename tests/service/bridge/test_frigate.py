"""Frigate's messages, whatever stands in them."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.frigate import FrigateEvents, parse_event
from service.bridge.sources import CameraEvent, MessageRefused
from service.settings import BridgeSettings
from tests.mqtt import REVIEW, TRACKED_OBJECT_UPDATE, event

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(payload: dict[str, Any], **settings: Any) -> CameraEvent | None:
    source = FrigateEvents(BridgeSettings.model_validate(settings))
    try:
        return source.read("frigate/events", json.dumps(payload).encode())
    finally:
        source.close()


def test_the_documented_event_is_read() -> None:
    assert read(event()) == CameraEvent(
        key="1607123955.475377-mxklsc",
        camera="front_door",
        label="person",
        event_id="1607123955.475377-mxklsc",
        source_topic="frigate/events",
        zones=("yard", "driveway"),
    )
    assert read(event(type="end", has_snapshot=False)) is None
    assert read(event(type="new"), when="end") is None
    assert read(event(type="end"), when="end") is not None
    assert read(event(has_snapshot=False)) is None
    assert read(event(false_positive=True)) is None


def test_an_event_of_a_version_that_tells_less_or_more_is_read() -> None:
    least = {"type": "new", "before": None, "after": {"id": "1.0-a", "camera": "c", "label": "person"}}
    seen = parse_event(json.dumps(least).encode()).after
    assert (seen.id, seen.camera, seen.label, seen.has_snapshot) == ("1.0-a", "c", "person", None)
    assert read(least) is None
    assert read(event() | {"of": "tomorrow"}) == read(event())


def test_every_field_that_no_filter_uses_may_be_null() -> None:
    seen = event()["after"]
    needed = {"id", "camera", "label", "has_snapshot"}
    nulls = {name: None for name in seen if name not in needed}
    whole = {"type": "end", "before": None, "after": seen | nulls}
    assert read(whole) == replace(must_read(event()), zones=())
    assert read({**whole, "after": seen | nulls | {"has_snapshot": None}}) is None


def must_read(payload: dict[str, Any]) -> CameraEvent:
    found = read(payload)
    assert found is not None
    return found


def test_a_number_that_no_filter_uses_may_be_nan() -> None:
    assert read(event(average_estimated_speed=float("nan")), min_area=23744) is not None
    assert read(event(), min_area=23745) is None


def test_a_refused_message_names_its_camera() -> None:
    with pytest.raises(MessageRefused, match=r"An event of front_door is .* - at `\$\.after\.area`"):
        read(event(area="large"))
    with pytest.raises(MessageRefused, match="An event of an unknown camera is"):
        read(event(camera="a/b"))


@pytest.mark.parametrize("other", [REVIEW, TRACKED_OBJECT_UPDATE])
def test_another_message_of_frigate_is_no_event(other: dict[str, Any]) -> None:
    with pytest.raises(MessageRefused):
        parse_event(json.dumps(other).encode())


@given(st.sampled_from(sorted(event()["after"])), _JSON)
def test_whatever_stands_in_a_field_the_names_that_come_out_are_safe(field: str, value: object) -> None:
    hostile = event()
    hostile["after"][field] = value
    try:
        sighting = parse_event(json.dumps(hostile).encode()).after
    except MessageRefused as error:
        assert len(str(error)) < 400
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", sighting.camera)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", sighting.id)
    assert (sighting.area or 0) >= 0


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_read_or_refused(payload: bytes) -> None:
    with pytest.raises(MessageRefused):
        parse_event(payload)
