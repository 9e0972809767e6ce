"""Settings of the service: `Settings.max_pixels` is read from `EYE2FACE_MAX_PIXELS`."""

import hashlib
import re
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from service.settings.environment import (
    PREFIX,
    CommaSeparated,
    ConfigurationError,
    EnvironmentSettings,
    is_loopback,
)

Sandbox = Literal["auto", "required", "off"]
"""Sandbox of the decoder processes: if supported, mandatory, or none."""

_EMPTY_KEY_HASH: Final = hashlib.sha256(b"").hexdigest()
"""The hash of an empty key, which a shell makes of a variable that is not set; no caller can send it."""

_LINE = r"^[^\x00-\x1f\x7f]*$"
_ORIGIN = re.compile(r"https?://[^/\s?#@]+")
_SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")


def check_key_hash(text: str, where: str) -> str:
    """The hash of an API key, in lower case.

    Raises:
        ValueError: it is none, or that of an empty key; `where` begins the message.
    """
    if not _SHA256_HEX.fullmatch(text):  # it is not shown: it may be a key that was not hashed
        raise ValueError(
            f"{where} is not 64 hexadecimal digits, a SHA-256 hash; hash each key, for instance with "
            "printf %s KEY | sha256sum"
        )
    if text.lower() == _EMPTY_KEY_HASH:
        raise ValueError(f"{where} is the hash of an empty key; hash a key that is not empty")
    return text.lower()


class Settings(EnvironmentSettings):
    """Settings of the service; immutable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

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
    eye_finder: Literal["learned", "haar"] = "learned"
    """Eye detector; learned: the shipped network; haar: OpenCV's Haar cascades."""
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
    api_keys: CommaSeparated = ()
    """Comma-separated SHA-256 hashes of the API keys, in hex; without any, no key is required."""
    api_keys_file: Path | None = None
    """File of further API keys, each line a SHA-256 hash in hex and a name; reloaded when it changes."""
    tls_cert_file: Path | None = None
    """Certificate chain in PEM format; turns on HTTPS; reloaded when it changes."""
    tls_key_file: Path | None = None
    """Private key in PEM format, if it is not in the certificate file."""
    max_requests_per_minute: int = Field(0, ge=0)
    """Rate limit, in photos per minute for each API key (or each client address, if no keys are set); four
    guesses, whoever they are of, count as a photo; 0: no limit."""
    max_concurrent_requests: int = Field(0, ge=0)
    """Maximum number of concurrent requests for each API key (or each client address, if no keys are set); 0:
    no limit."""
    trusted_proxies: str = ""
    """Comma-separated addresses of the proxies whose X-Forwarded-For is trusted; *: all."""
    marking: Literal["required", "off"] = "required"
    """Watermark in every face; required: always; off: never, which every response then states. Metadata are
    written in either case."""
    marking_secret_file: Path | None = None
    """File of the secret that the watermark is derived from; without one all deployments have the same
    watermark, which anybody can forge."""
    c2pa_cert_file: Path | None = None
    """Certificate chain in PEM format that signs a C2PA manifest in every face; needs the extra c2pa."""
    c2pa_key_file: Path | None = None
    """Private key of that certificate, in PEM format."""
    c2pa_trust_file: Path | None = None
    """Root certificates in PEM format; /verify trusts C2PA signatures that chain to one of them."""
    operator_name: str = Field("", max_length=200, pattern=_LINE)
    """Name of the operator of the service, shown in /policy and written into each face's metadata."""
    operator_contact: str = Field("", max_length=200, pattern=_LINE)
    """Contact for complaints about faces, shown in /policy: an e-mail address or a URL."""
    docs: bool = True
    """Serve /docs and /openapi.json, without authentication."""
    cors_origins: CommaSeparated = ()
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

    @field_validator("api_keys")
    @classmethod
    def _check_hashes(cls, hashes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_key_hash(each, f"entry {number}") for number, each in enumerate(hashes, start=1))

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
    def _check_certificates(self) -> Self:
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("tls_key_file is set without tls_cert_file; HTTPS needs a key and a certificate")
        if (self.c2pa_cert_file is None) != (self.c2pa_key_file is None):
            raise ValueError("c2pa_cert_file and c2pa_key_file need each other")
        return self

    @property
    def is_local_only(self) -> bool:
        """Whether only requests of this machine are answered: it is not said who else may send them."""
        return not (self.api_keys or self.api_keys_file or self.allow_anonymous)

    def check_exposure(self) -> None:
        """Raises ConfigurationError if the service would accept anonymous requests from other machines."""
        if self.is_local_only and not is_loopback(self.host):
            raise ConfigurationError(
                f"host {self.host} is reachable from other machines, and no API keys are set: "
                "set EYE2FACE_API_KEYS to the SHA-256 of each key or EYE2FACE_API_KEYS_FILE to a file of "
                "them, or EYE2FACE_ALLOW_ANONYMOUS=true, or listen on 127.0.0.1"
            )
