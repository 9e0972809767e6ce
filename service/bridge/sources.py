"""What a bridge listens to: a source reads MQTT messages as events of cameras, and has their photos."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from service.errors import Eye2FaceError

CAMERA: Final = "[A-Za-z0-9_-]{1,64}"
"""Pattern of a camera's name, which becomes part of topics."""

MAX_PHOTO_BYTES: Final = 20_000_000


class MessageRefused(Eye2FaceError):
    """A message does not hold what its topic promises."""

    status, code, title = 502, "message_refused", "Invalid message"


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """An event of a camera; `key` is the same in all messages about it."""

    key: str
    camera: str
    label: str | None = None
    event_id: str | None = None
    source_topic: str | None = None
    zones: tuple[str, ...] = ()
    photo: bytes | None = None
    """The photo; None if the source has to fetch it."""

    @property
    def id(self) -> str:
        """A short form of the key, of hexadecimal digits."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:32]


class Source(Protocol):
    """One kind of events; `read` is called by the MQTT thread, `fetch` by workers."""

    topics: Sequence[str]
    """Topic filters to subscribe to."""

    max_payload_bytes: int

    def read(self, topic: str, payload: bytes) -> CameraEvent | None:
        """The event of a message; None if it does not pass the settings' filters.

        Raises:
            MessageRefused: the message is invalid.
        """

    def fetch(self, event: CameraEvent) -> bytes:
        """The photo of an event that came without one, an image file.

        Raises:
            Eye2FaceError: there is none.
        """
        raise MessageRefused(f"The message of {event.camera} has no photo.")

    def close(self) -> None:
        """Closes the connections, if there are any."""
        return
