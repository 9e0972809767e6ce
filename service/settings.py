"""Settings of the service and of the bridge, read from environment variables at startup.

`Settings.max_pixels` is read from `EYE2FACE_MAX_PIXELS`, `BridgeSettings.topic` from `EYE2FACE_BRIDGE_TOPIC`.
`docs/configuration.md` is generated from the descriptions below: `python -m tests.write_docs`.
"""

import difflib
import hashlib
import ipaddress
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, FilePath, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import Eye2FaceError

Sandbox = Literal["auto", "required", "off"]
"""Sandbox of the decoder processes: if supported, mandatory, or none."""

EMPTY_KEY_HASH: Final = hashlib.sha256(b"").hexdigest()
"""The hash of an empty key, which a shell makes of a variable that is not set; no caller can send it."""

_LINE = r"^[^\x00-\x1f\x7f]*$"
_ORIGIN = re.compile(r"https?://[^/\s?#@]+")
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_PREFIX = "EYE2FACE_"

# Kubernetes sets "service link" variables in each pod. A Service named eye2face gives, among others,
# EYE2FACE_PORT=tcp://10.0.0.7:80, EYE2FACE_SERVICE_HOST and EYE2FACE_PORT_80_TCP_ADDR: none is a setting.
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")
_LINK_NAME = re.compile(r".*_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")

_log = logging.getLogger(__name__)


class ConfigurationError(Eye2FaceError):
    """The operator's settings, or a file that they name, cannot be used; callers never meet it."""


class _EnvironmentSettings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,  # Compose cannot leave a variable out, only empty
    )

    @field_validator("*", mode="before")
    @classmethod
    def _ignore_service_link(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        is_link = name.endswith("port") and isinstance(value, str) and _LINK_VALUE.fullmatch(value)
        return cls.model_fields[name].default if is_link else value


class Settings(_EnvironmentSettings):
    """Settings of the service; immutable."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    model: str = "synthesizer"
    """Name of a shipped or mounted model, or path of an ONNX file."""
    models_dir: Path | None = None
    """Folder of your own models, which take precedence over the shipped ones."""
    model_watch_s: float = Field(0.0, ge=0)
    """Interval at which the model file is checked for changes, in seconds; 0: reload on SIGHUP only."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that runs the model; auto: a GPU if available; cpu: no GPU; cuda: a GPU, or refuse to start."""
    eye_finder: Literal["learned", "learned-open", "haar"] = "learned"
    """Eye detector; learned: the shipped network; learned-open: for any use; haar: OpenCV's Haar cascades."""
    min_eye_px: float = Field(5.0, ge=0)
    """Minimum size of an eye, the side of its square crop, in pixels; 0: no minimum."""
    min_eye_light: float = Field(0.05, ge=0, le=1)
    """Minimum brightness of the brightest part of an eye, 0 to 1; 0: no minimum."""
    min_eye_sharpness: float = Field(0.28, ge=0, le=1)
    """Minimum sharpness of an eye, 0 (blurred) to 1; 0: no minimum."""
    max_upload_bytes: int = Field(20_000_000, ge=1)
    """Maximum size of a request body, in bytes."""
    max_pixels: int = Field(50_000_000, ge=1)
    """Maximum number of pixels of a photo; read from the image header, before decoding."""
    max_batch_photos: int = Field(16, ge=1)
    """Maximum number of photos in one request to /synthesize/batch."""
    max_batch_bytes: int = Field(60_000_000, ge=1)
    """Maximum size of the body of a request to /synthesize/batch, in bytes."""
    max_people: int = Field(20, ge=1)
    """Maximum number of faces drawn from one photo with person=all; the largest people come first."""
    num_threads: int = Field(0, ge=0, le=1024)
    """Number of photos processed at once; 0: the number of available CPU cores plus one."""
    num_readers: int = Field(-1, ge=-1, le=1024)
    """Number of decoder processes, which decode photos and detect eyes; 0: none, worker threads do it; -1:
    one per core (at most 32) if the model runs on a GPU or a sandbox is required, otherwise none."""
    sandbox: Sandbox = "auto"
    """Sandbox of the decoder processes; auto: if the system supports it; required: refuse to start without
    one; off: none."""
    max_queued: int = Field(64, ge=1)
    """Maximum number of photos in the queue; further ones are refused."""
    max_wait_ms: float = Field(500.0, gt=0)
    """Maximum expected time in the queue, in milliseconds; photos that would wait longer are refused."""
    deadline_ms: float = Field(10_000.0, gt=0)
    """Deadline of a request from the end of its upload, in milliseconds; the header X-Deadline-Ms shortens
    it."""
    upload_timeout_s: float = Field(30.0, gt=0)
    """Timeout of an upload, in seconds."""
    stop_timeout_s: float = Field(20.0, ge=0)
    """Grace period for requests in flight when the service stops, in seconds."""
    verify: Literal["open", "key"] = "open"
    """Access to /verify; open: everybody; key: callers with an API key."""
    max_verifications_per_minute: int = Field(60, ge=0)
    """Rate limit of /verify for each API key or client address, apart from other limits; 0: no limit."""
    metrics: Literal["off", "key", "open"] = "key"
    """Access to /metrics; off: nobody; key: callers with an API key (everybody, if no keys are set); open:
    everybody."""
    api_keys: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated SHA-256 hashes of the API keys, in hex; without any, no key is required."""
    api_keys_file: Path | None = None
    """File of further API keys: one hash per line, then a name; reloaded when it changes."""
    tls_cert_file: Path | None = None
    """Certificate chain in PEM format; turns on HTTPS; reloaded when it changes."""
    tls_key_file: Path | None = None
    """Private key in PEM format, if it is not in the certificate file."""
    max_requests_per_minute: int = Field(0, ge=0)
    """Rate limit, in photos per minute for each API key (or each client address, if no keys are set); 0: no
    limit."""
    max_concurrent_requests: int = Field(0, ge=0)
    """Maximum number of concurrent requests for each API key (or each client address, if no keys are set); 0:
    no limit."""
    trusted_proxies: str = ""
    """Comma-separated addresses of the proxies whose X-Forwarded-For is trusted; *: all."""
    marking: Literal["required", "off"] = "required"
    """Watermark in every face; required: yes; off: no, which every answer then says. Metadata are always
    written."""
    marking_secret_file: Path | None = None
    """File of a secret that only this deployment's watermark follows from; without one the watermark is that
    of every such service, which anybody can forge."""
    c2pa_cert_file: Path | None = None
    """Certificate chain in PEM format that signs a C2PA manifest in every face; needs the extra c2pa."""
    c2pa_key_file: Path | None = None
    """Private key of that certificate, in PEM format."""
    c2pa_trust_file: Path | None = None
    """Root certificates in PEM format, whose signatures /verify takes for this deployment's."""
    operator_name: str = Field("", max_length=200, pattern=_LINE)
    """Who answers for the service and its faces, in /policy and in each face's metadata."""
    operator_contact: str = Field("", max_length=200, pattern=_LINE)
    """Where complaints about faces go, in /policy: an e-mail address or a page."""
    docs: bool = True
    """Serve /docs and /openapi.json, without authentication."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated origins that CORS allows, such as https://example.org; *: all."""
    allow_anonymous: bool = False
    """Allow listening on other than loopback addresses without API keys."""
    tracing: bool = False
    """Export OpenTelemetry traces (needs the extra otel); OpenTelemetry's own variables, such as
    OTEL_EXPORTER_OTLP_ENDPOINT, configure the exporter."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum log level."""
    log_format: Literal["plain", "json"] = "plain"
    """Format of the log; plain: text; json: one JSON object per line."""

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_at_commas(value)

    @field_validator("api_keys")
    @classmethod
    def _check_hashes(cls, hashes: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(each.lower() for each in hashes)
        wrong = [index for index, each in enumerate(lowered, start=1) if not _SHA256_HEX.fullmatch(each)]
        if wrong:  # The message must not show the value: it may be a key that was not hashed.
            raise ValueError(
                f"entry {wrong[0]} is not 64 hexadecimal digits; hash each key, for instance with "
                "printf %s KEY | sha256sum"
            )
        if EMPTY_KEY_HASH in lowered:
            raise ValueError("one entry is the hash of an empty key; hash a key that is not empty")
        return lowered

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            raise ValueError(
                f"'{wrong[0]}' is not an origin; write scheme and host, as in https://example.org, or *"
            )
        return tuple(each.lower() for each in origins)

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError(
                "tls_key_file is set without tls_cert_file; HTTPS needs both a key and a certificate"
            )
        return self

    @model_validator(mode="after")
    def _check_c2pa(self) -> Self:
        if (self.c2pa_cert_file is None) != (self.c2pa_key_file is None):
            raise ValueError("c2pa_cert_file and c2pa_key_file need each other")
        return self

    @property
    def is_on_loopback(self) -> bool:
        """Whether the service listens on a loopback address, which other machines cannot reach."""
        return _is_loopback(self.host)

    @property
    def is_local_only(self) -> bool:
        """Whether only requests of this machine are answered: it is not said who else may send them."""
        return not (self.api_keys or self.api_keys_file or self.allow_anonymous)

    def check_exposure(self) -> Self:
        """These settings, if the service is on loopback, has API keys, or may be anonymous.

        Raises:
            ConfigurationError: it would accept anonymous requests from other machines.
        """
        if self.is_on_loopback or not self.is_local_only:
            return self
        raise ConfigurationError(
            f"host {self.host} is reachable from other machines, and no API keys are set: "
            "set EYE2FACE_API_KEYS to the SHA-256 of each key or EYE2FACE_API_KEYS_FILE to a file of them, "
            "or EYE2FACE_ALLOW_ANONYMOUS=true, or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # A host name may resolve to any address.
        return False


_NO_HOST = re.compile(r"[/@\[\]\s]|^[^:]*:[^:]*$")  # a URL, or a port; IPv6 has two colons
_ADDRESS = r"^https?://[^/\s]+"
_TOPIC = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"
_Names = Annotated[tuple[str, ...], NoDecode]


class BridgeSettings(_EnvironmentSettings):
    """Settings of the bridge to Frigate; immutable. Secrets are read from files that hold nothing else."""

    model_config = SettingsConfigDict(env_prefix=f"{_PREFIX}BRIDGE_")

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
    """File that holds a token for Frigate's authenticated port 8971."""
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
    source: Literal["events", "snapshots", "pictures"] = "events"
    """Trigger of a face; events: messages on frigate/events; snapshots: files on frigate/+/LABEL/snapshot;
    pictures: files on the picture topics."""
    picture_topics: _Names = ()
    """Comma-separated topics of pictures, each with {camera} for a level or a part of one."""
    http_port: int = Field(0, ge=0, le=65535)
    """Port that takes pictures over HTTP, by POST /cameras/CAMERA/pictures; 0: none."""
    http_host: str = "127.0.0.1"
    """Address of that port; others than loopback addresses need API keys."""
    api_keys_file: FilePath | None = None
    """File of the API keys for that port: one hash per line, then a name; reloaded when it changes."""
    when: Literal["first", "end"] = "first"
    """Moment of an event; first: its first matching message; end: its end, with Frigate's best snapshot."""
    cameras: _Names = ()
    """Comma-separated cameras to process; none: all."""
    labels: _Names = Field(("person",), min_length=1)
    """Comma-separated object labels to process."""
    zones: _Names = ()
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

    @field_validator("cameras", "labels", "zones", "picture_topics", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_at_commas(value)

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
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.http_port and not (self.api_keys_file or _is_loopback(self.http_host)):
            raise ValueError(
                f"EYE2FACE_BRIDGE_HTTP_HOST={self.http_host} is reachable from other machines; set "
                "EYE2FACE_BRIDGE_API_KEYS_FILE, or listen on 127.0.0.1"
            )
        return self


def warn_about_unknown_variables() -> None:
    """Logs a warning for each `EYE2FACE_` variable that is not a setting, with the closest name."""
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    known += [f"{_PREFIX}BRIDGE_{name.upper()}" for name in BridgeSettings.model_fields]
    for name in sorted(os.environ):
        if not name.upper().startswith(_PREFIX) or name.upper() in known or _LINK_NAME.fullmatch(name):
            continue
        meant = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
        advice = f"; did you mean {meant[0]}?" if meant else ""
        _log.warning("%s is not a setting and is ignored%s", name, advice)


def _split_at_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())
