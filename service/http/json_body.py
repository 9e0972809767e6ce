"""A photo in JSON: {"image": base64}.

The base64 is decoded as it arrives, and the rest, a few bytes, is parsed. A JSON parser would keep the
interpreter from all other requests, for 0.2 s with 20 MB of spaces.
"""

import binascii
import codecs
import re
from typing import Final

import msgspec

from service.errors import InvalidJson, InvalidParameter, MissingField, RequestError

FIELD: Final = "image"

_FIELD_START: Final = re.compile(rb'"%b"\s*:\s*"' % FIELD.encode())
_MAX_FRAME: Final = 4096
"""Bytes beside the base64."""

_ADVICE: Final = f'Send {{"{FIELD}": base64}}.'


class _Frame(msgspec.Struct, forbid_unknown_fields=True):
    image: str


class JsonPhotoParser:
    """Takes the photo out of a JSON body that arrives in chunks.

    Its methods raise:
        InvalidJson: the body is not JSON, not an object, or `image` is not base64.
        MissingField, InvalidParameter: it has other fields.
    """

    def __init__(self) -> None:
        self._frame = b""  # what is not base64
        self._photo = Base64Decoder()
        self._is_started = self._is_ended = False

    def feed(self, chunk: bytes) -> None:
        """Takes the next chunk of the body."""
        if not self._is_started:
            self._frame += chunk
            field = _FIELD_START.search(self._frame, 0, _MAX_FRAME)
            if field:
                self._is_started = True
                chunk = self._frame[field.end() :]
                self._frame = self._frame[: field.end()]
        if self._is_started and not self._is_ended:
            text, quote, rest = chunk.partition(b'"')
            self._decode(text)
            self._is_ended = bool(quote)
            chunk = quote + rest
        if self._is_ended:
            self._frame += chunk
        if len(self._frame) > _MAX_FRAME:
            self._check_frame()
            raise InvalidJson(f"The JSON holds more than the photo. {_ADVICE}")

    def close(self) -> bytes:
        """The photo of the body, all of which was fed."""
        self._check_frame()
        if not self._is_started:
            raise InvalidJson(f"The JSON escapes characters that need it not. {_ADVICE}")
        try:
            return self._photo.close()
        except ValueError as error:
            raise _not_base64(str(error)) from error

    def _check_frame(self) -> None:
        try:
            msgspec.json.decode(self._frame[:_MAX_FRAME].removeprefix(codecs.BOM_UTF8), type=_Frame)
        except msgspec.ValidationError as error:
            raise _explain(str(error), is_photo=self._is_started) from error
        except msgspec.DecodeError as error:
            raise InvalidJson(f"The body is not JSON ({error}). {_ADVICE}") from error

    def _decode(self, text: bytes) -> None:
        try:
            self._photo.feed(text)
        except ValueError as error:
            raise _not_base64(str(error)) from error


class Base64Decoder:
    """Decodes base64 that arrives in pieces, and in which JSON may have escaped slashes.

    Its methods raise ValueError: it is not base64.
    """

    def __init__(self) -> None:
        self._decoded: list[bytes] = []
        self._rest = b""

    def feed(self, text: bytes) -> None:
        """Takes the next piece."""
        text = (self._rest + text).replace(rb"\/", b"/")
        end = max(0, len(text) - 1) // 4 * 4  # at least a character stays: it may start an escape
        if b"=" in text[:end]:
            raise ValueError("text after the padding")
        self._decoded.append(binascii.a2b_base64(text[:end], strict_mode=True))
        self._rest = text[end:]

    def close(self) -> bytes:
        """What was decoded, all of which was fed."""
        self._decoded.append(binascii.a2b_base64(self._rest, strict_mode=True))
        return b"".join(self._decoded)


def _not_base64(reason: str) -> InvalidJson:
    return InvalidJson(f"The field '{FIELD}' is not base64 ({reason}); send no line breaks and no data URL.")


def _explain(reason: str, *, is_photo: bool) -> RequestError:
    """The error for JSON of another shape, by msgspec's message."""
    if "unknown field" in reason:
        other = quoted([reason.split("`")[1]])
        return (
            options_in_body(other) if is_photo else MissingField(f"The JSON has the field {other}. {_ADVICE}")
        )
    if "missing required field" in reason:
        return MissingField(f"The JSON object is empty. {_ADVICE}")
    if f"$.{FIELD}" in reason:
        return InvalidJson(f"The field '{FIELD}' is no string. {_ADVICE}")
    return InvalidJson(f"The JSON is not an object. {_ADVICE}")


def options_in_body(names: str) -> InvalidParameter:
    """The error for fields beside the photo."""
    return InvalidParameter(
        f"The body holds {names} beside '{FIELD}'. Options such as eye=left go into the query."
    )


def quoted(names: list[str]) -> str:
    """Some names of fields, for a message."""
    return ", ".join(f"'{name[:40]}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
