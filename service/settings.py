"""Every knob of the service, read once from the environment; imports nothing of ours.

Each name below is read from the variable `EYE2FACE_` + the name in capitals, for instance
`EYE2FACE_MAX_PIXELS=20000000`.
"""

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class Settings(BaseSettings):
    """The settings of one service; frozen, so that what started is what runs."""

    model_config = SettingsConfigDict(
        env_prefix="EYE2FACE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    model: str = Field("synthesizer", description="A shipped model's name, or the path of an ONNX file.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; with cuda the service does not start unless it does."
    )
    eye_finder: Literal["learned", "haar"] = Field(
        "haar",  # "learned" from the day on which models/eye_finder.onnx is shipped
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
    num_threads: int = Field(
        0, ge=0, le=1024, description="Photos worked on at once; 0 counts the cores given to the process."
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
    allow_anonymous: bool = Field(False, description="Listen beyond loopback although no API keys are set.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["plain", "json"] = Field("plain", description="Lines to read, or JSON objects.")

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

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

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # some other name: it may mean any address
            return False

    def refuse_exposure(self) -> Self:
        """These settings, if whoever can reach the service is meant to.

        Raises:
            ValueError: beyond loopback, with neither API keys nor `allow_anonymous`.
        """
        if self.on_loopback or self.api_keys or self.allow_anonymous:
            return self
        raise ValueError(
            f"host {self.host} can be reached from other machines, and no API keys are set: "
            "set EYE2FACE_API_KEYS to the SHA-256 of each key, or EYE2FACE_ALLOW_ANONYMOUS=true, "
            "or listen on 127.0.0.1"
        )
