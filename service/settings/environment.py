"""What the settings of all programs share: how environment variables are read."""

import ipaddress
import re
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import Eye2FaceError

PREFIX = "EYE2FACE_"

# Kubernetes sets "service link" variables in each pod. A Service named eye2face gives, among others,
# EYE2FACE_PORT=tcp://10.0.0.7:80, EYE2FACE_SERVICE_HOST and EYE2FACE_PORT_80_TCP_ADDR: none is a setting.
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")
LINK_NAME = re.compile(r".*_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


class ConfigurationError(Eye2FaceError):
    """The operator's settings, or a file that they name, cannot be used; callers never meet it."""


class EnvironmentSettings(BaseSettings):
    """Settings from environment variables; immutable."""

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


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # A host name may resolve to any address.
        return False


def _split_at_commas(value: object) -> object:
    """The parts of a string, without blanks and empty ones; any other value as it is."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]
