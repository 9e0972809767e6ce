"""Base64 in JSON: a photo as {"image": base64}, and strings that any other JSON holds.

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


class Base64Extractor:
    """Takes strings of base64 out of JSON that arrives in chunks, and decodes them.

    What is left is the `frame`, in which they are empty. No string starts beyond `max_frame` bytes of it.
    """

    def __init__(
        self,
        start: re.Pattern[bytes],
        next_start: re.Pattern[bytes] | None = None,
        *,
        max_frame: int,
        max_strings: int = 1,
    ) -> None:
        """`start` matches what is before the first string, `next_start` what is between two."""
        self.frame = b""
        self.decoded: list[bytes] = []
        self._start, self._next_start = start, next_start
        self._max_frame, self._max_strings = max_frame, max_strings
        self._string_end = 0  # in the frame
        self._parts: list[bytes] | None = None  # of the string that arrives
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Takes the next chunk.

        Raises:
            InvalidJson: a string is not base64.
            InvalidParameter: there are more than `max_strings`.
        """
        while chunk:
            chunk = self._take_out(chunk) if self._parts is None else self._decode(chunk, self._parts)

    def _take_out(self, chunk: bytes) -> bytes:
        """Adds to the frame; what comes after the start of a string."""
        self.frame += chunk
        if not self.decoded:
            found = self._start.search(self.frame, 0, self._max_frame)
        else:
            found = self._next_start and self._next_start.match(self.frame, self._string_end, self._max_frame)
        if not found:
            return b""
        if len(self.decoded) == self._max_strings:
            raise too_many_photos(self._max_strings)
        chunk, self.frame = self.frame[found.end() :], self.frame[: found.end()]
        self._parts = []
        return chunk

    def _decode(self, chunk: bytes, parts: list[bytes]) -> bytes:
        """Adds to a string, in which slashes may be escaped; what comes from its end on."""
        text, quote, after = chunk.partition(b'"')
        text = (self._rest + text).replace(rb"\/", b"/")
        # Of one that goes on at least a character stays: it may start an escape.
        end = len(text) if quote else max(0, len(text) - 1) // 4 * 4
        try:
            if not quote and b"=" in text[:end]:
                raise ValueError("text after the padding")
            parts.append(binascii.a2b_base64(text[:end], strict_mode=True))
        except ValueError as error:
            raise InvalidJson(
                f"'{FIELD}' is not base64 ({error}); send no line breaks and no data URL."
            ) from error
        self._rest = text[end:]
        if quote:
            self.decoded.append(b"".join(parts))
            self._parts, self._string_end = None, len(self.frame)
        return quote + after


class JsonPhotoParser:
    """Takes the photo out of a JSON body that arrives in chunks.

    Its methods raise:
        InvalidJson: the body is not JSON, not an object, or `image` is not base64.
        MissingField, InvalidParameter: it has other fields.
    """

    def __init__(self) -> None:
        self._json = Base64Extractor(_FIELD_START, max_frame=_MAX_FRAME)

    def feed(self, chunk: bytes) -> None:
        """Takes the next chunk of the body."""
        self._json.feed(chunk)
        if len(self._json.frame) > _MAX_FRAME:
            self._check_frame()
            raise InvalidJson(f"The JSON holds more than the photo. {_ADVICE}")

    def close(self) -> bytes:
        """The photo of the body, all of which was fed."""
        self._check_frame()
        if not self._json.decoded:
            raise InvalidJson(f"The JSON escapes characters that need it not. {_ADVICE}")
        return self._json.decoded[0]

    def _check_frame(self) -> None:
        try:
            msgspec.json.decode(self._json.frame[:_MAX_FRAME].removeprefix(codecs.BOM_UTF8), type=_Frame)
        except msgspec.ValidationError as error:
            raise _explain(str(error), is_photo=bool(self._json.decoded)) from error
        except msgspec.DecodeError as error:
            raise InvalidJson(f"The body is not JSON ({error}). {_ADVICE}") from error


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


def too_many_photos(most: int) -> InvalidParameter:
    """The error for more photos than one request may have."""
    return InvalidParameter(f"'{FIELD}' has more than {most} elements; send them in several requests.")


def quoted(names: list[str]) -> str:
    """Some names of fields, for a message."""
    return ", ".join(f"'{name[:40]}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
