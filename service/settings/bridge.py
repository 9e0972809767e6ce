"""Settings of the bridge: `BridgeSettings.topic` is read from `EYE2FACE_BRIDGE_TOPIC`."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, FilePath, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from service.settings.environment import PREFIX, CommaSeparated, EnvironmentSettings, is_loopback

_NO_HOST = re.compile(r"[/@\[\]\s]|^[^:]*:[^:]*$")  # a URL, or a port; IPv6 has two colons
_ADDRESS = r"^https?://[^/\s]+"
_TOPIC = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"


class BridgeSettings(EnvironmentSettings):
    """Settings of the bridge; immutable. Secrets are read from files that hold nothing else."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}BRIDGE_")

    mqtt_host: str = Field("127.0.0.1", min_length=1)
    """Host of the MQTT 5 broker."""
    mqtt_port: int = Field(1883, ge=1, le=65535)
    """Port of the broker."""
    mqtt_tls: bool = False
    """Connect to the broker with TLS and verify its certificate."""
    mqtt_ca_file: FilePath | None = None
    """CA certificates for the broker, in PEM format; none: those of the system."""
    mqtt_username: str | None = None
    """Username at the broker."""
    mqtt_password_file: FilePath | None = None
    """File that holds the password for the broker."""
    mqtt_client_id: str = Field("eye2face-bridge", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """MQTT client ID, which names the session at the broker; each bridge needs its own, and its own topic."""
    frigate: str = Field("http://127.0.0.1:5000", pattern=_ADDRESS)
    """Base URL of Frigate."""
    frigate_token_file: FilePath | None = None
    """File that holds a token for Frigate's authenticated port 8971; read for each snapshot."""
    frigate_topic: str = Field("frigate", pattern=_TOPIC)
    """Frigate's MQTT topic prefix (topic_prefix)."""
    service: str = Field("http://127.0.0.1:8000", pattern=_ADDRESS)
    """Base URL of the service."""
    service_key_file: FilePath | None = None
    """File that holds an API key of the service."""
    ca_file: FilePath | None = None
    """CA certificates for HTTPS to Frigate, the service and the webhook, in PEM format; none: the public
    ones."""
    topic: str = Field("eye2face", pattern=_TOPIC)
    """Prefix of the topics that the bridge publishes."""
    source: Literal["events", "snapshots", "pictures", "http"] = "events"
    """Trigger of a face; events: messages on frigate/events; snapshots: files on frigate/+/LABEL/snapshot;
    pictures: files on the picture topics; http: pictures over HTTP alone, without a broker: faces go to the
    webhook."""
    picture_topics: CommaSeparated = ()
    """Comma-separated topics of pictures, each with {camera} for a level or a part of one."""
    http_port: int = Field(0, ge=0, le=65535)
    """Port that takes pictures over HTTP, by POST /cameras/CAMERA/pictures; 0: none."""
    http_host: str = "127.0.0.1"
    """Address of that port; others than loopback addresses need API keys."""
    api_keys_file: FilePath | None = None
    """File of the API keys for that port, each line a SHA-256 hash in hex and a name; reloaded when it
    changes."""
    when: Literal["first", "end"] = "first"
    """When an event gets its face; first: at its first matching message; end: at its end, from Frigate's best
    snapshot."""
    cameras: CommaSeparated = ()
    """Comma-separated cameras to process; none: all."""
    labels: CommaSeparated = Field(("person",), min_length=1)
    """Comma-separated object labels to process."""
    zones: CommaSeparated = ()
    """Comma-separated zones, one of which the object must have entered; none: no condition."""
    min_area: float = Field(0, ge=0)
    """Minimum area of the bounding box, in pixels; 0: no minimum."""
    format: Literal["png", "jpeg", "webp"] = "png"
    """Image format of the faces."""
    num_workers: int = Field(2, ge=1, le=64)
    """Number of events processed at once."""
    max_waiting: int = Field(5000, ge=1)
    """Maximum number of events in the queue; further ones are refused."""
    memory_file: Path | None = None
    """Database (SQLite) of processed events, pictures taken over HTTP and messages for the webhook, so that a
    restart neither repeats nor loses any; none: kept in memory only."""
    deadline_s: float = Field(30, gt=0, le=3600)
    """Deadline for fetching a snapshot, and again for drawing its face, in seconds."""
    webhook: str | None = Field(None, pattern=_ADDRESS)
    """URL that each face, or the error in its place, is sent to as a CloudEvent; none: MQTT only."""
    webhook_secret_file: FilePath | None = None
    """File that holds a secret to sign these messages with (Standard Webhooks): whsec_ and base64."""
    webhook_image: bool = False
    """Include the face in these messages, in base64."""
    home_assistant: bool = True
    """Announce an image and an event entity for each camera to Home Assistant (MQTT discovery)."""
    home_assistant_topic: str = Field("homeassistant", pattern=_TOPIC)
    """Home Assistant's discovery prefix."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum log level."""

    @property
    def uses_broker(self) -> bool:
        """Whether messages come and go over MQTT."""
        return self.source != "http"

    @field_validator("mqtt_host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if _NO_HOST.search(host):  # The message must not show the value: a URL may hold a password.
            raise ValueError(
                "write the broker's name or address alone; its port is EYE2FACE_BRIDGE_MQTT_PORT, and TLS "
                "is EYE2FACE_BRIDGE_MQTT_TLS"
            )
        return host

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if any(set(label) & set("+#/\0") for label in labels):  # They become parts of topics.
            raise ValueError("labels must not contain + # /")
        return labels

    @field_validator("picture_topics")
    @classmethod
    def _check_topics(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            rest = topic.replace("{camera}", "", 1)
            if rest == topic or set(rest) & set("{}+#\0"):
                raise ValueError(f"'{topic}' must hold {{camera}} once, and none of + # {{ }}")
        return topics

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source != "events" and (self.zones or self.min_area or self.when == "end"):
            raise ValueError(
                "EYE2FACE_BRIDGE_ZONES, EYE2FACE_BRIDGE_MIN_AREA and EYE2FACE_BRIDGE_WHEN=end need "
                f"EYE2FACE_BRIDGE_SOURCE=events: {self.source} carry no event data"
            )
        if self.picture_topics and self.source != "pictures":
            raise ValueError("EYE2FACE_BRIDGE_PICTURE_TOPICS needs EYE2FACE_BRIDGE_SOURCE=pictures")
        if self.source == "pictures" and not (self.picture_topics or self.http_port):
            raise ValueError(
                "EYE2FACE_BRIDGE_SOURCE=pictures needs EYE2FACE_BRIDGE_PICTURE_TOPICS or "
                "EYE2FACE_BRIDGE_HTTP_PORT"
            )
        if not (self.uses_broker or (self.http_port and self.webhook)):
            raise ValueError(
                "EYE2FACE_BRIDGE_SOURCE=http, which uses no broker, needs EYE2FACE_BRIDGE_HTTP_PORT and "
                "EYE2FACE_BRIDGE_WEBHOOK"
            )
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.http_port and not (self.api_keys_file or is_loopback(self.http_host)):
            raise ValueError(
                f"EYE2FACE_BRIDGE_HTTP_HOST={self.http_host} is reachable from other machines; set "
                "EYE2FACE_BRIDGE_API_KEYS_FILE, or listen on 127.0.0.1"
            )
        return self
