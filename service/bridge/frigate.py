"""Frigate's events on MQTT and its HTTP API: parsing, filtering, snapshots.

Messages are untrusted: size, depth, types and names are validated, and a name that becomes part of a URL or
topic holds letters, digits and `_ - .` only.

Source: docs.frigate.video, "MQTT" (`frigate/events`) and "HTTP API"
(`GET /api/events/:id/snapshot.jpg`), versions 0.12 to 0.18.
"""

import json
import ssl
from collections.abc import Sequence
from typing import Annotated, Final

import httpx
import msgspec
from msgspec import Meta, Struct

from service.bridge.sources import CAMERA, MAX_PHOTO_BYTES, CameraEvent, MessageRefused, Source
from service.client.exchange import open_http, root_cause, send
from service.client.loop_thread import LoopThread
from service.client.retries import RETRY_STATUSES, RetryPolicy, TryOutcome
from service.errors import Eye2FaceError
from service.settings import BridgeSettings
from service.system.operator_files import read_secret

MAX_EVENT_BYTES: Final = 1_000_000
"""Events have a few KB, in old versions with a thumbnail of some tens of KB."""

_NOT_READY: Final = RETRY_STATUSES | {404, 500, 504}
"""Statuses of a snapshot that is not ready: 404 for a moment after the event, 500 in some versions."""

_SNAPSHOT_QUERY: Final = {"crop": 1, "bbox": 0, "timestamp": 0, "height": 0, "quality": 95}
"""The crop of the object, not annotated, not resized; before 0.18 only while the event lasts."""


class SnapshotUnavailable(Eye2FaceError):
    """Frigate does not answer, or has no snapshot of the event."""

    status, code, title = 502, "snapshot_unavailable", "Snapshot unavailable"


_Camera = Annotated[str, Meta(pattern=rf"\A{CAMERA}\Z")]
_EventId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
_Word = Annotated[str, Meta(min_length=1, max_length=64)]


class _Named(Struct):
    camera: _Camera


class _Tracked(_Named):
    id: _EventId
    label: _Word
    false_positive: bool | None = None
    has_snapshot: bool | None = None
    area: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    entered_zones: Annotated[tuple[_Word, ...], Meta(max_length=100)] | None = None


class _NamedEvent(Struct):
    after: _Named


class FrigateEvent(Struct):
    """A message on `frigate/events`."""

    type: Annotated[
        str, Meta(pattern=r"\A(new|update|end)\Z")
    ]  # a message about a `Literal` repeats the value
    after: _Tracked


class FrigateEvents(Source):
    """Source of the tracked objects on `frigate/events`."""

    max_payload_bytes = MAX_EVENT_BYTES

    def __init__(self, settings: BridgeSettings, verify: ssl.SSLContext | bool = True) -> None:
        """`verify` is that of httpx."""
        self.topics: Sequence[str] = [f"{settings.frigate_topic}/events"]
        self._settings = settings
        self._retry = RetryPolicy(max_tries=8, deadline_s=settings.deadline_s, statuses=_NOT_READY)
        read_secret(settings.frigate_token_file)
        self._http = open_http(settings.frigate, {}, timeout_s=settings.deadline_s, verify=verify)
        self._loop = LoopThread()

    def read(self, topic: str, payload: bytes) -> CameraEvent | None:
        """The event of a message, if this one passes the filters; a later one about it may."""
        event = parse_event(payload)
        if not is_selected(event, self._settings):
            return None
        seen = event.after
        return CameraEvent(seen.id, seen.camera, seen.label, seen.id, topic, seen.entered_zones or ())

    def fetch(self, event: CameraEvent) -> bytes:
        """The snapshot of an event.

        Raises:
            SnapshotUnavailable: there is none, or Frigate does not answer within the deadline.
        """
        path = f"/api/events/{event.event_id}/snapshot.jpg"
        token = read_secret(self._settings.frigate_token_file)  # they expire, by default after a day
        headers = {"authorization": f"Bearer {token}"} if token else {}
        request = self._http.build_request("GET", path, params=_SNAPSHOT_QUERY, headers=headers)
        outcome, num_tries = self._loop.run(send, self._http, request, self._retry, max_bytes=MAX_PHOTO_BYTES)
        photo = _photo_or_fault(outcome)
        if isinstance(photo, bytes):
            return photo
        raise SnapshotUnavailable(
            f"Frigate (EYE2FACE_BRIDGE_FRIGATE) gave no snapshot of {event.event_id}, the last of "
            f"{num_tries} tries: {photo}."
        )

    def close(self) -> None:
        """Closes the connections."""
        self._loop.close(self._http.aclose)


def parse_event(payload: bytes) -> FrigateEvent:
    """The message on `frigate/events`.

    Raises:
        MessageRefused: it is not as Frigate documents it.
    """
    if len(payload) > MAX_EVENT_BYTES:
        raise MessageRefused(f"An event has {len(payload):,} bytes; at most {MAX_EVENT_BYTES:,} are read.")
    named = "an unknown camera"
    try:
        document = json.loads(payload)  # takes the NaN that Frigate may write, which msgspec does not
        named = msgspec.convert(document, _NamedEvent).after.camera
        return msgspec.convert(document, FrigateEvent)
    except (ValueError, RecursionError) as error:
        raise MessageRefused(
            f"An event of {named} is not as Frigate documents it: {str(error)[:160]}."
        ) from None


def is_selected(event: FrigateEvent, settings: BridgeSettings) -> bool:
    """Whether a message passes the settings' filters."""
    seen = event.after
    return (
        bool(seen.has_snapshot)
        and not seen.false_positive
        and (not settings.cameras or seen.camera in settings.cameras)
        and seen.label in settings.labels
        and (not settings.zones or not set(settings.zones).isdisjoint(seen.entered_zones or ()))
        and (seen.area or 0) >= settings.min_area
        and (event.type == "end" or settings.when == "first")
    )


def _photo_or_fault(response: TryOutcome) -> bytes | str:
    if not isinstance(response, httpx.Response):
        return root_cause(response)
    status, media_type = response.status_code, response.headers.get("content-type", "image/*")
    if status in (401, 403):
        return f"it answers {status}; EYE2FACE_BRIDGE_FRIGATE_TOKEN_FILE must hold a token that is valid now"
    if response.has_redirect_location:
        return f"it answers {status} and redirects to {response.headers['location'][:200]}"
    if status != httpx.codes.OK:
        return f"it answers {status}"
    if not media_type.startswith("image/"):
        return f"Frigate answered {media_type[:60]} in place of an image; is it a login page?"
    return response.content or "it has 0 bytes"
