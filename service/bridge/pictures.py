"""Pictures that cameras publish on MQTT topics, as files or base64."""

import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from service.bridge.sources import CAMERA, MAX_PHOTO_BYTES, CameraEvent, MessageRefused, Source
from service.vision.png import SIGNATURE as PNG
from service.vision.webp import is_webp

_JPEG: Final = b"\xff\xd8\xff"
_DATA_URL: Final = re.compile(rb"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_MAX_PREFIX_BYTES: Final = 100


class Pictures(Source):
    """Source of the pictures on topics with a `{camera}` in them."""

    max_payload_bytes = MAX_PHOTO_BYTES * 4 // 3 + _MAX_PREFIX_BYTES  # in base64

    def __init__(self, labels: Mapping[str, str | None], cameras: Sequence[str] = ()) -> None:
        """`labels`: that of each topic, which has `{camera}` in it; `cameras`: those to take; none: all."""
        self.topics: Sequence[str] = [re.sub(r"[^/]*{camera}[^/]*", "+", topic) for topic in labels]
        self._labels = [
            (re.compile(re.escape(topic).replace(r"\{camera\}", f"({CAMERA})")), label)
            for topic, label in labels.items()
        ]
        self._cameras = cameras

    def read(self, topic: str, payload: bytes) -> CameraEvent | None:
        """The event of a picture; see `Source.read`."""
        found = ((pattern.fullmatch(topic), label) for pattern, label in self._labels)
        camera, label = next(((name[1], label) for name, label in found if name), (None, None))
        if camera is None:
            raise MessageRefused(
                f"The camera in topic {topic[:200]!r} is not 1 to 64 letters, digits, _ and -."
            )
        if self._cameras and camera not in self._cameras:
            return None
        return replace(picture_event(camera, _decode(camera, payload)), label=label, source_topic=topic)


def picture_event(camera: str, picture: bytes) -> CameraEvent:
    """The event of a picture; its key is camera and SHA-256.

    Raises:
        MessageRefused: it is no JPEG, PNG or WebP, or too large.
    """
    if len(picture) > MAX_PHOTO_BYTES:
        raise MessageRefused(
            f"A picture of {camera} has {len(picture):,} bytes; at most {MAX_PHOTO_BYTES:,} are taken."
        )
    if not is_picture(picture):
        raise MessageRefused(f"A picture of {camera} is no JPEG, PNG or WebP.")
    key = f"{camera}/{hashlib.sha256(picture).hexdigest()}"
    return CameraEvent(key=key, camera=camera, photo=picture)


def _decode(camera: str, payload: bytes) -> bytes:
    """The picture in a message: a file, its base64, or that in a `data:` URL."""
    if is_picture(payload):
        return payload
    text = payload[found.end() :] if (found := _DATA_URL.match(payload)) else payload
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise MessageRefused(
            f"A picture of {camera} is neither JPEG, PNG nor WebP, nor their base64 without line breaks "
            f"({error})."
        ) from None


def is_picture(data: bytes) -> bool:
    """Whether the bytes begin like a JPEG, PNG or WebP file."""
    return data.startswith((_JPEG, PNG)) or is_webp(data)
