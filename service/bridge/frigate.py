"""Frigate's MQTT messages and its HTTP API: parsing, filtering, snapshots.

Messages are untrusted: size, depth, types and names are validated, and a name that becomes part of a URL or
topic holds letters, digits and `_ - .` only.

Source: docs.frigate.video, "MQTT" (`frigate/events`, `frigate/<camera>/<object>/snapshot`) and "HTTP API"
(`GET /api/events/:id/snapshot.jpg`), versions 0.12 to 0.16.
"""

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.client.retries import RETRY_STATUSES, AttemptOutcome, RetryPolicy, RetryState, send
from service.errors import Eye2FaceError
from service.settings import BridgeSettings

MAX_EVENT_BYTES: Final = 1_000_000
"""Events have a few KB, in old versions with a thumbnail of some tens of KB."""

MAX_SNAPSHOT_BYTES: Final = 20_000_000

_NOT_READY: Final = RETRY_STATUSES | {404, 500, 504}
"""Statuses of a snapshot that is not ready: 404 for a moment after the event, 500 in some versions."""

_SNAPSHOT_QUERY: Final = {"crop": 1, "bbox": 0, "timestamp": 0, "quality": 95}
"""The crop of the tracked object without annotations; Frigate heeds it while the event lasts."""

_CONNECT_S: Final = 5.0


class FrigateError(Eye2FaceError):
    """Frigate's data cannot be used; the bridge publishes it, the service never answers it."""

    status = 502
    code = "frigate_error"
    title = "Frigate failed"


class MessageRefused(FrigateError):
    """An MQTT message is not as Frigate documents it."""

    code = "message_refused"
    title = "Invalid message"


class SnapshotUnavailable(FrigateError):
    """Frigate does not answer, or has no snapshot of the event."""

    code = "snapshot_unavailable"
    title = "Snapshot unavailable"


_Camera = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_EventId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Word = Annotated[str, Field(min_length=1, max_length=64)]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


class _Tracked(_Message):
    id: _EventId
    camera: _Camera
    label: _Word
    false_positive: bool | None = False
    has_snapshot: bool = False
    area: float = Field(0, ge=0, allow_inf_nan=False)
    entered_zones: Annotated[tuple[_Word, ...], Field(max_length=100)] = ()


class _Event(_Message):
    type: Literal["new", "update", "end"]
    after: _Tracked


class _SnapshotTopic(_Message):
    camera: _Camera
    label: _Word


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """An event of a camera's tracked object; `key` is the same in all messages about it."""

    key: str
    camera: str
    label: str
    event_id: str | None = None
    zones: tuple[str, ...] = ()
    area: float = 0
    ended: bool = False
    has_snapshot: bool = True
    snapshot: bytes | None = None
    """The photo, if it came with the message."""


def read_event(payload: bytes) -> CameraEvent:
    """The event in a message on `frigate/events`.

    Raises:
        MessageRefused: it is not as Frigate documents it.
    """
    if len(payload) > MAX_EVENT_BYTES:
        raise MessageRefused(f"An event has {len(payload):,} bytes; at most {MAX_EVENT_BYTES:,} are read.")
    try:
        event = _Event.model_validate_json(payload)
    except ValidationError as error:
        raise MessageRefused(f"An event is not as Frigate documents it: {_explain(error)}.") from None
    seen = event.after
    return CameraEvent(
        key=seen.id,
        camera=seen.camera,
        label=seen.label,
        event_id=seen.id,
        zones=seen.entered_zones,
        area=seen.area,
        ended=event.type == "end",
        has_snapshot=seen.has_snapshot and not seen.false_positive,
    )


def read_snapshot(topic: str, payload: bytes) -> CameraEvent:
    """The event of a message on `<prefix>/<camera>/<label>/snapshot`; equal pictures have equal keys.

    Raises:
        MessageRefused: the topic is none of Frigate's, or the picture is too large or none.
    """
    *_, camera, label, _ = ("", "", *topic.split("/"))
    try:
        parts = _SnapshotTopic(camera=camera, label=label)
    except ValidationError as error:
        raise MessageRefused(f"A snapshot's topic is not Frigate's: {_explain(error)}.") from None
    if not 0 < len(payload) <= MAX_SNAPSHOT_BYTES:
        raise MessageRefused(f"A snapshot has {len(payload):,} bytes; 1 to {MAX_SNAPSHOT_BYTES:,} are taken.")
    key = f"{parts.camera}/{hashlib.sha256(payload).hexdigest()}"
    return CameraEvent(key=key, camera=parts.camera, label=parts.label, snapshot=payload)


def _explain(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:80] or 'the whole'}: {first['msg'][:160]}"


def is_selected(event: CameraEvent, settings: BridgeSettings) -> bool:
    """Whether this message passes the settings' filters; a later one about the same event may."""
    return (
        event.has_snapshot
        and (not settings.cameras or event.camera in settings.cameras)
        and event.label in settings.labels
        and (not settings.zones or not set(settings.zones).isdisjoint(event.zones))
        and event.area >= settings.min_area
        and (event.ended or settings.when == "first")
    )


class FrigateClient:
    """Client of Frigate's HTTP API; may be shared by threads."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        deadline_s: float = 30.0,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """`token` is for its authenticated port; `verify` is that of httpx."""
        headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._retry = RetryPolicy(max_tries=8, deadline_s=deadline_s, statuses=_NOT_READY)
        self._http = httpx.Client(base_url=address, headers=headers, trust_env=False, verify=verify)

    def fetch_snapshot(self, event_id: str) -> bytes:
        """The snapshot of an event, a JPEG.

        Raises:
            SnapshotUnavailable: there is none, or Frigate does not answer within the deadline.
        """
        tries = RetryState(self._retry)
        outcome = send(self._http, _snapshot_request(event_id), tries)
        if isinstance(outcome, httpx.Response) and outcome.status_code == httpx.codes.OK:
            if 0 < len(outcome.content) <= MAX_SNAPSHOT_BYTES:
                return outcome.content
            raise SnapshotUnavailable(f"Frigate's snapshot of {event_id} has {len(outcome.content):,} bytes.")
        raise SnapshotUnavailable(
            f"Frigate gave no snapshot of {event_id}, the last of {max(1, tries.num_failed)} tries: "
            f"{_describe(outcome)}."
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


def _snapshot_request(event_id: str) -> Callable[[RetryState], dict[str, Any]]:
    def of(tries: RetryState) -> dict[str, Any]:
        left_s = max(tries.left_s, 0.001)
        return {
            "method": "GET",
            "url": f"/api/events/{event_id}/snapshot.jpg",
            "params": _SNAPSHOT_QUERY,
            "timeout": httpx.Timeout(left_s, connect=min(_CONNECT_S, left_s)),
        }

    return of


def _describe(outcome: AttemptOutcome) -> str:
    if not isinstance(outcome, httpx.Response):
        return str(outcome) or type(outcome).__name__
    if outcome.status_code in (401, 403):
        return f"it answers {outcome.status_code}; set EYE2FACE_BRIDGE_FRIGATE_TOKEN_FILE"
    return f"it answers {outcome.status_code}"
