"""Frigate's messages, whatever stands in them."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.frigate import CameraEvent, MessageRefused, read_event, read_snapshot
from tests.mqtt import REVIEW, TRACKED_OBJECT_UPDATE, event

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_documented_event_is_read() -> None:
    assert read_event(json.dumps(event()).encode()) == CameraEvent(
        key="1607123955.475377-mxklsc",
        camera="front_door",
        label="person",
        event_id="1607123955.475377-mxklsc",
        zones=("yard", "driveway"),
        area=23744,
    )
    assert read_event(json.dumps(event(type="end", has_snapshot=False)).encode()).ended
    assert not read_event(json.dumps(event(has_snapshot=False)).encode()).has_snapshot
    assert not read_event(json.dumps(event(false_positive=True)).encode()).has_snapshot


def test_an_event_of_a_version_that_tells_less_or_more_is_read() -> None:
    least = {"type": "new", "before": None, "after": {"id": "1.0-a", "camera": "c", "label": "person"}}
    assert read_event(json.dumps(least).encode()) == CameraEvent(
        "1.0-a", "c", "person", "1.0-a", has_snapshot=False
    )
    more = event() | {"of": "tomorrow"}
    assert read_event(json.dumps(more).encode()).camera == "front_door"


def test_every_field_that_no_filter_uses_may_be_null() -> None:
    seen = event()["after"]
    needed = {"id", "camera", "label"}
    nulls = {name: None for name in seen if name not in needed}
    whole = {"type": "end", "before": None, "after": seen | nulls}
    assert read_event(json.dumps(whole).encode()) == CameraEvent(
        "1607123955.475377-mxklsc", "front_door", "person", "1607123955.475377-mxklsc",
        ended=True, has_snapshot=False,
    )  # fmt: skip


def test_a_number_that_no_filter_uses_may_be_nan() -> None:
    assert read_event(json.dumps(event(average_estimated_speed=float("nan"))).encode()).area == 23744


def test_a_refused_message_names_its_camera() -> None:
    with pytest.raises(MessageRefused, match=r"An event of front_door is .* - at `\$\.after\.area`"):
        read_event(json.dumps(event(area="large")).encode())
    with pytest.raises(MessageRefused, match="An event of an unknown camera is"):
        read_event(json.dumps(event(camera="a/b")).encode())
    with pytest.raises(MessageRefused, match="A snapshot of yard has 0 bytes"):
        read_snapshot("frigate/yard/person/snapshot", b"")


@pytest.mark.parametrize("other", [REVIEW, TRACKED_OBJECT_UPDATE])
def test_another_message_of_frigate_is_no_event(other: dict[str, Any]) -> None:
    with pytest.raises(MessageRefused):
        read_event(json.dumps(other).encode())


@given(st.sampled_from(sorted(event()["after"])), _JSON)
def test_whatever_stands_in_a_field_the_names_that_come_out_are_safe(field: str, value: object) -> None:
    hostile = event()
    hostile["after"][field] = value
    try:
        sighting = read_event(json.dumps(hostile).encode())
    except MessageRefused as error:
        assert len(str(error)) < 400
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", sighting.camera)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", str(sighting.event_id))
    assert sighting.area >= 0


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_read_or_refused(payload: bytes) -> None:
    with pytest.raises(MessageRefused):
        read_event(payload)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_snapshots_topic_gives_safe_names_or_is_refused(camera: str, label: str) -> None:
    try:
        sighting = read_snapshot(f"frigate/{camera}/{label}/snapshot", b"picture")
    except MessageRefused:
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", sighting.camera)
    assert "/" not in sighting.label


def test_the_same_picture_has_the_same_key_and_another_one_another() -> None:
    keys = [
        read_snapshot(f"frigate/{camera}/person/snapshot", picture).key
        for camera, picture in (("a", b"1"), ("a", b"1"), ("a", b"2"), ("b", b"1"))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("topic", ["", "frigate", "frigate/snapshot", "x/person/"])
def test_a_topic_that_is_none_of_frigates_is_refused(topic: str) -> None:
    with pytest.raises(MessageRefused):
        read_snapshot(topic, b"")
