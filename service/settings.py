"""Every knob of the service and of its bridge, read once from the environment; imports nothing of ours.

Each name below is read from the variable `EYE2FACE_` + the name in capitals, for instance
`EYE2FACE_MAX_PIXELS=20000000`; those of the bridge from `EYE2FACE_BRIDGE_` + the name.
"""

import difflib
import ipaddress
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Sandbox = Literal["auto", "required", "off"]
"""Whether processes that read photos are shut in: where the system can, or else there are none, or never."""

_ORIGIN = re.compile(r"https?://[^/\s?#@]+")
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_PREFIX = "EYE2FACE_"

# Into each pod Kubernetes puts variables for every Service of its namespace: for one named eye2face
# EYE2FACE_PORT=tcp://10.0.0.7:80, EYE2FACE_SERVICE_HOST and EYE2FACE_PORT_80_TCP_ADDR, among others.
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")
_LINK_NAME = re.compile(r".*_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")

_log = logging.getLogger(__name__)


class Settings(BaseSettings):
    """The settings of one service; frozen, so that what started is what runs."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    model: str = Field(
        "synthesizer", description="A shipped or mounted model's name, or the path of an ONNX file."
    )
    models_dir: str = Field(
        "", description="A folder of models of your own, which go before the shipped ones."
    )
    model_watch_s: float = Field(
        0.0,
        ge=0,
        description="Seconds between looks for a new model in place of the old one; 0: SIGHUP only.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; with cuda the service does not start unless it does."
    )
    eye_finder: Literal["learned", "haar"] = Field(
        "learned",
        description="Who looks for eyes in the photo: our own network, or OpenCV's cascades.",
    )
    min_eye_px: float = Field(
        5.0, ge=0, description="Pixels of the square around an eye below which no face is drawn; 0: any."
    )
    min_eye_light: float = Field(
        0.05, ge=0, le=1, description="The same for the light of an eye's brightest part, 0 to 1; 0: any."
    )
    min_eye_sharpness: float = Field(
        0.28, ge=0, le=1, description="The same for an eye's sharpness, 0 (a smear) to 1; 0: any."
    )
    max_upload_bytes: int = Field(20_000_000, ge=1, description="Bytes of a request's body.")
    max_pixels: int = Field(50_000_000, ge=1, description="Pixels of a photo, told by its header.")
    max_batch_photos: int = Field(16, ge=1, description="Photos of one request to /synthesize/batch.")
    max_batch_bytes: int = Field(60_000_000, ge=1, description="Bytes of its body.")
    max_people: int = Field(
        20, ge=1, description="Faces drawn of one photo with person=all, the largest people's."
    )
    num_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Photos worked on at once; 0: as many as the cores given to the process, and one.",
    )
    num_readers: int = Field(
        -1,
        ge=-1,
        le=1024,
        description="Processes of their own that decode photos and look for eyes; 0: none, -1: one for "
        "each core, 32 at most, where the model runs on a GPU or a sandbox is required, else none.",
    )
    sandbox: Sandbox = Field(
        "auto",
        description="Whether these processes are shut in: where the system can, or else the service does not "
        "start, or never.",
    )
    max_queued: int = Field(64, ge=1, description="Photos that may wait for a core; one more is refused.")
    max_wait_ms: float = Field(
        500.0, gt=0, description="Milliseconds that a photo may be expected to wait; if more, it is refused."
    )
    deadline_ms: float = Field(
        10_000.0,
        gt=0,
        description="Milliseconds from an upload's end to its answer; X-Deadline-Ms: fewer.",
    )
    upload_timeout_s: float = Field(30.0, gt=0, description="Seconds that an upload may take.")
    stop_timeout_s: float = Field(
        20.0, ge=0, description="Seconds that requests in flight have to end when the service is stopped."
    )
    metrics: Literal["off", "key", "open"] = Field(
        "key", description="Who may read /metrics: nobody, who has a key (all, without keys), or everybody."
    )
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="SHA-256 of every API key, in hex, separated by commas; none: no key is asked for."
    )
    api_keys_file: str = Field(
        "", description="A file with more of them, one a line, a name behind it; may change while it runs."
    )
    tls_cert_file: str = Field(
        "",
        description="A file with a certificate and those that lead to its root, in PEM: the service speaks "
        "HTTPS; may change while it runs.",
    )
    tls_key_file: str = Field("", description="A file with its private key; none: it is in the same file.")
    max_requests_per_minute: int = Field(
        0,
        ge=0,
        description="Photos a minute for each API key, or each address where no key is asked for; 0: any.",
    )
    max_concurrent_requests: int = Field(0, ge=0, description="The same for requests at once; 0: any.")
    trusted_proxies: str = Field(
        "",
        description="Addresses of proxies, comma between, whose X-Forwarded-For is believed; *: everybody's.",
    )
    docs: bool = Field(True, description="Serve /docs and /openapi.json, to everybody.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Sites whose pages may use the service, such as https://example.org; *: any."
    )
    allow_anonymous: bool = Field(False, description="Listen beyond loopback although no API keys are set.")
    tracing: bool = Field(
        False,
        description="Trace requests and the stages of their photos, with the extra otel; where to is told by "
        "OpenTelemetry's variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["plain", "json"] = Field("plain", description="Lines to read, or JSON objects.")

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_service_link(cls, value: object) -> object:
        is_link = isinstance(value, str) and _LINK_VALUE.fullmatch(value)
        return cls.model_fields["port"].default if is_link else value

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_at_commas(value)

    @field_validator("api_keys")
    @classmethod
    def _check_hashes(cls, hashes: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(each.lower() for each in hashes)
        wrong = [index for index, each in enumerate(lowered, start=1) if not _SHA256_HEX.fullmatch(each)]
        if wrong:  # the value itself is not shown: it may be a key that someone forgot to hash
            raise ValueError(
                f"entry {wrong[0]} is not 64 hexadecimal digits; hash each key, for instance with "
                "printf %s KEY | sha256sum"
            )
        return lowered

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            raise ValueError(
                f"'{wrong[0]}' is no origin; write scheme and host, as in https://example.org, or *"
            )
        return tuple(each.lower() for each in origins)

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("tls_key_file is set, but no tls_cert_file: a key alone does not make HTTPS")
        return self

    @property
    def tls_files(self) -> tuple[Path, Path | None] | None:
        """The files of the certificate and, if it is not in the same one, of its key; None: no TLS."""
        if not self.tls_cert_file:
            return None
        return Path(self.tls_cert_file), Path(self.tls_key_file) if self.tls_key_file else None

    @property
    def models_folder(self) -> Path | None:
        """The folder of mounted models."""
        return Path(self.models_dir) if self.models_dir else None

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # some other name: it may mean any address
            return False

    def check_exposure(self) -> Self:
        """These settings, if whoever can reach the service is meant to.

        Raises:
            ValueError: beyond loopback, with neither API keys nor `allow_anonymous`.
        """
        if self.is_on_loopback or self.api_keys or self.api_keys_file or self.allow_anonymous:
            return self
        raise ValueError(
            f"host {self.host} can be reached from other machines, and no API keys are set: "
            "set EYE2FACE_API_KEYS to the SHA-256 of each key or EYE2FACE_API_KEYS_FILE to a file of them, "
            "or EYE2FACE_ALLOW_ANONYMOUS=true, or listen on 127.0.0.1"
        )


_ADDRESS = r"^https?://[^/\s]+"
_TOPIC = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"
_Names = Annotated[tuple[str, ...], NoDecode]


class BridgeSettings(BaseSettings):
    """The settings of one bridge to an NVR; secrets come from files, each with the secret alone."""

    model_config = SettingsConfigDict(
        env_prefix=f"{_PREFIX}BRIDGE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    mqtt_host: str = Field("127.0.0.1", min_length=1, description="The broker; it must speak MQTT 5.")
    mqtt_port: int = Field(1883, ge=1, le=65535, description="Its port.")
    mqtt_tls: bool = Field(False, description="Speak TLS with the broker, and check who it is.")
    mqtt_ca_file: Path | None = Field(
        None, description="File with the certificates to check it by; none: those of the system."
    )
    mqtt_username: str | None = Field(None, description="Who the broker knows the bridge as.")
    mqtt_password_file: Path | None = Field(None, description="File with the password for the broker.")
    mqtt_client_id: str = Field(
        "eye2face-bridge", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Under this name the broker keeps "
        "what comes while the bridge is away; two bridges need two names and two topics.",
    )  # fmt: skip
    frigate: str = Field("http://127.0.0.1:5000", pattern=_ADDRESS, description="Address of Frigate.")
    frigate_token_file: Path | None = Field(
        None, description="File with a token for Frigate's port 8971, which wants one."
    )
    frigate_topic: str = Field("frigate", pattern=_TOPIC, description="Frigate's `topic_prefix`.")
    service: str = Field("http://127.0.0.1:8000", pattern=_ADDRESS, description="Address of the service.")
    service_key_file: Path | None = Field(None, description="File with an API key of the service.")
    ca_file: Path | None = Field(
        None,
        description="File with the certificates to check Frigate and the service by, where they speak HTTPS; "
        "none: the public ones.",
    )
    topic: str = Field("eye2face", pattern=_TOPIC, description="What the bridge publishes lies below it.")
    source: Literal["events", "snapshots"] = Field(
        "events",
        description="What starts a face: `frigate/events` or `frigate/+/LABEL/snapshot`, never both.",
    )
    when: Literal["first", "end"] = Field(
        "first", description="Take an event at once, or at its end, with Frigate's best snapshot of it."
    )
    cameras: _Names = Field((), description="Cameras to take, separated by commas; none: all.")
    labels: _Names = Field(("person",), min_length=1, description="Labels to take.")
    zones: _Names = Field((), description="Take only what entered one of these zones; none: any place.")
    min_area: float = Field(
        0, ge=0, description="Take only boxes of so many pixels of Frigate's `area`; 0: of any size."
    )
    format: Literal["png", "jpeg", "webp"] = Field("png", description="Format of the faces.")
    num_workers: int = Field(2, ge=1, le=64, description="Events worked on at once.")
    max_waiting: int = Field(5000, ge=1, description="Events that may wait; more are refused.")
    memory_file: Path | None = Field(
        None, description="File that knows after a restart which events are done; none: memory alone."
    )
    deadline_s: float = Field(
        30, gt=0, le=3600, description="Seconds after which a snapshot, or a face, is given up."
    )
    home_assistant: bool = Field(True, description="Announce an image entity for each camera.")
    home_assistant_topic: str = Field(
        "homeassistant", pattern=_TOPIC, description="Home Assistant's discovery prefix."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @field_validator("cameras", "labels", "zones", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_at_commas(value)

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if any(set(label) & set("+#/\0") for label in labels):  # they become parts of topics
            raise ValueError("a label holds none of + # /")
        return labels

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "snapshots" and (self.zones or self.min_area or self.when == "end"):
            raise ValueError("zones, min_area and when=end need source=events: a snapshot tells none of them")
        return self


def warn_about_unknown_variables() -> None:
    """Logs each variable of the environment that is named like a setting and is none: a slip of the pen."""
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    known += [f"{_PREFIX}BRIDGE_{name.upper()}" for name in BridgeSettings.model_fields]
    for name in sorted(os.environ):
        if not name.upper().startswith(_PREFIX) or name.upper() in known or _LINK_NAME.fullmatch(name):
            continue
        meant = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
        advice = f"; is {meant[0]} meant?" if meant else ""
        _log.warning("%s is no setting and changes nothing%s", name, advice)


def read_secret(path: Path | None) -> str | None:
    """The secret that a file holds, without the line's end; None of no file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no text, or nothing.
    """
    if path is None:
        return None
    try:
        secret = path.read_text("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text; it should hold the secret alone") from None
    if not secret:
        raise ValueError(f"{path} is empty; it should hold the secret alone")
    return secret


def _split_at_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())
