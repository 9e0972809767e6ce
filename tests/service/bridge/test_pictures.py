"""Pictures on MQTT topics: what is one, of which camera, and what is refused."""

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.pictures import Pictures
from service.bridge.sources import MAX_PHOTO_BYTES, CameraEvent, MessageRefused
from tests.fakes import astronaut, encoded

JPEG = encoded(astronaut(), "jpeg")
TOPIC = "BlueIris/{camera}/alert-image-b64"


def read(payload: bytes, topic: str = "BlueIris/yard/alert-image-b64") -> CameraEvent | None:
    return Pictures({TOPIC: None}).read(topic, payload)


def test_a_picture_is_an_event_of_its_camera_and_its_sha256() -> None:
    assert read(JPEG) == CameraEvent(
        key=f"yard/{hashlib.sha256(JPEG).hexdigest()}",
        camera="yard",
        source_topic="BlueIris/yard/alert-image-b64",
        photo=JPEG,
    )


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_a_picture_is_a_file_its_base64_or_a_data_url(format: str) -> None:
    picture = encoded(astronaut()[:64, :64], format)
    text = base64.b64encode(picture)
    for payload in (picture, text, b"data:image/%b;base64,%b" % (format.encode(), text)):
        found = read(payload)
        assert found is not None and found.photo == picture


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"GIF89a", "neither JPEG, PNG nor WebP"),
        (b'{"image": ""}', "neither JPEG, PNG nor WebP"),
        (base64.b64encode(JPEG)[:-1], "neither JPEG, PNG nor WebP"),
        (base64.encodebytes(JPEG), "without line breaks"),
        (b"*" * 10_000_000, "neither JPEG, PNG nor WebP"),
        (base64.b64encode(b"BM" + bytes(1000)), "no JPEG, PNG or WebP"),
        (b"data:image/jpeg;base64,", "no JPEG, PNG or WebP"),
        (b"data:text/html;base64," + base64.b64encode(JPEG), "neither JPEG, PNG nor WebP"),
        (b"http://127.0.0.1/a.jpg", "neither JPEG, PNG nor WebP"),
        (JPEG + bytes(MAX_PHOTO_BYTES), "at most 20,000,000"),
        (base64.b64encode(b"\xff\xd8\xff" + bytes(MAX_PHOTO_BYTES)), "20,000,003 bytes; at most"),
    ],
    ids=["GIF", "JSON", "cut off", "lines", "no base64", "BMP", "empty", "HTML", "URL", "large", "long"],
)  # fmt: skip
def test_what_is_no_picture_is_refused_and_its_camera_named(payload: bytes, said: str) -> None:
    with pytest.raises(MessageRefused, match=f"A picture of yard .*{re.escape(said)}") as caught:
        read(payload)
    assert len(str(caught.value)) < 200


def test_the_largest_picture_in_base64_is_taken() -> None:
    largest = b"\xff\xd8\xff" + bytes(MAX_PHOTO_BYTES - 3)
    payload = b"data:image/jpeg;base64," + base64.b64encode(largest)
    assert len(payload) <= Pictures.max_payload_bytes
    found = read(payload)
    assert found is not None and found.photo == largest


@pytest.mark.parametrize(
    ("template", "subscribed", "topic"),
    [
        ("BlueIris/{camera}/alert", "BlueIris/+/alert", "BlueIris/yard/alert"),
        ("{camera}", "+", "yard"),
        ("a/cam-{camera}.jpg/b", "a/+/b", "a/cam-yard.jpg/b"),
        ("a b/{camera}_last", "a b/+", "a b/yard_last"),
    ],
)
def test_a_camera_is_a_level_of_the_topic_or_a_part_of_one(
    template: str, subscribed: str, topic: str
) -> None:
    source = Pictures({"other/{camera}": None, template: "person"})
    assert source.topics == ["other/+", subscribed]
    found = source.read(topic, JPEG)
    assert found is not None and (found.camera, found.label) == ("yard", "person")


@pytest.mark.parametrize("camera", ["", "a b", "a+", "#", "a.b", "é", "x" * 65, "yard\n"])
def test_another_name_of_a_camera_is_refused(camera: str) -> None:
    with pytest.raises(MessageRefused, match="The camera in topic"):
        read(JPEG, f"BlueIris/{camera}/alert-image-b64")


def test_the_dot_of_a_topic_is_a_dot() -> None:
    with pytest.raises(MessageRefused):
        Pictures({"{camera}.jpg": None}).read("yardxjpg", JPEG)


@pytest.mark.slow
@given(st.text(max_size=80))
def test_whatever_topic_comes_the_camera_has_a_safe_name(topic: str) -> None:
    try:
        found = Pictures({"{camera}": None, "a/{camera}": None}).read(topic, JPEG)
    except MessageRefused:
        return
    assert found is not None and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", found.camera)


def test_a_camera_that_is_not_chosen_is_passed_over() -> None:
    source = Pictures({"{camera}": None}, cameras=["yard"])
    assert source.read("porch", JPEG) is None
    assert source.read("yard", JPEG) is not None


def test_equal_pictures_of_a_camera_have_equal_keys() -> None:
    source = Pictures({"{camera}": None})
    keys = [
        found.key
        for camera, payload in (("a", JPEG), ("a", base64.b64encode(JPEG)), ("a", JPEG + b"x"), ("b", JPEG))
        if (found := source.read(camera, payload))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
