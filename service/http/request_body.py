"""Request bodies: the photo's bytes in one of three forms, not decoded.

    image/*               the bytes themselves
    multipart/form-data   one file in the field `image`
    application/json      {"image": base64}

Bytes are counted as they arrive, those of each body and of all. Nothing is read beyond the limits or written
to disk.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import (
    EmptyBody,
    InvalidForm,
    MissingField,
    Overloaded,
    UnsupportedMediaType,
    UploadTooLarge,
    UploadTooSlow,
)
from service.http.json_body import FIELD, JsonPhotoParser, options_in_body, quoted

T = TypeVar("T")

_MAX_FIELDS: Final = 16
_MAX_TYPE_LENGTH: Final = 2000  # it is parsed in quadratic time
_MAX_BOUNDARIES: Final = 1000  # in files, where clients put none: the parser takes a microsecond for each
_FORMS = "image/*, multipart/form-data with the file in the field 'image', or application/json with base64"

_LARGE_DIVISOR: Final = 64  # a body is large from 1/64 of the limit on: 4 MB with 2 GB of memory


@dataclass(frozen=True, slots=True)
class UploadedPhoto:
    """One file of a form, whose photos are counted from 0."""

    index: int
    file_name: str
    data: bytes


class UploadMemoryLimit:
    """Bytes of all request bodies in memory, and of the responses to them until they have left.

    For one event loop.

    Above the limit large bodies are refused, and above twice the limit all, so that slow large uploads do not
    keep small photos out. A single body may have any size.
    """

    def __init__(self, num_bytes: int) -> None:
        self.most = num_bytes
        self.large = num_bytes // _LARGE_DIVISOR
        self.num_held = 0


@dataclass(slots=True)
class BodyReservation:
    """The bytes of one body that have arrived, or of its response."""

    limit: UploadMemoryLimit
    num_bytes: int = 0

    def grow(self, num_bytes: int) -> None:
        """Adds bytes that arrived.

        Raises:
            Overloaded: there is no memory for them.
        """
        limit = self.limit
        self.num_bytes += num_bytes
        limit.num_held += num_bytes
        if limit.num_held <= limit.most or limit.num_held == self.num_bytes:
            return
        if self.num_bytes > limit.large or limit.num_held > 2 * limit.most:
            raise Overloaded(
                f"Bodies and responses of {limit.num_held:,} bytes are in memory; there is no room for more. "
                "Send the photo again after the time that Retry-After names, or make it smaller."
            )

    def replace(self, num_bytes: int) -> None:
        """The body is gone, and a response of `num_bytes` takes its place.

        Raises:
            Overloaded: there is no memory for it.
        """
        self.close()
        self.grow(num_bytes)

    def close(self) -> None:
        """Neither the body nor a response is in memory."""
        self.limit.num_held -= self.num_bytes
        self.num_bytes = 0


async def read_photo(request: Request, *, max_bytes: int, max_s: float) -> bytes:
    """The bytes of the photo.

    Raises:
        UploadTooLarge: the body is longer than `max_bytes`, by its Content-Length or by count.
        UploadTooSlow: it was not complete after `max_s`.
        Overloaded: bodies take too much memory.
        EmptyBody: there is no body.
        UnsupportedMediaType: the Content-Type is none of the three forms, or the body is compressed.
        MissingField, InvalidForm, InvalidJson, InvalidParameter: the form or JSON is invalid.
    """
    _refuse_head(request, max_bytes)
    return await _within(max_s, _read(request, max_bytes))


async def read_body(
    request: Request, feed: Callable[[bytes], object], *, max_bytes: int, max_s: float
) -> None:
    """Feeds the chunks of a body of any Content-Type.

    Raises:
        UploadTooLarge, UploadTooSlow, Overloaded, EmptyBody: as `read_photo`.
        UnsupportedMediaType: it is compressed.
    """
    _refuse_head(request, max_bytes)
    await _within(max_s, _feed(request, feed, max_bytes))


async def read_photos(
    request: Request, *, max_bytes: int, max_s: float, max_files: int
) -> list[UploadedPhoto]:
    """The files of a form, in their order.

    Raises:
        UploadTooLarge, UploadTooSlow, Overloaded: as `read_photo`.
        EmptyBody, UnsupportedMediaType: there is no form.
        MissingField, InvalidForm, InvalidParameter: it is invalid, or has more than `max_files` files.
    """
    _refuse_head(request, max_bytes)
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaType(
            f"The Content-Type is '{content_type[:80]}'. Send the photos as multipart/form-data, each as a "
            f"file in a field '{FIELD}'."
        )
    return await _within(max_s, _read_form(request, max_bytes, max_fields=max_files))


def _refuse_head(request: Request, max_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_large(f"{int(length[:20]):,} bytes are announced", max_bytes)
    if length == "0" or (not length and "transfer-encoding" not in request.headers):
        raise EmptyBody(f"The request has no body. Send a photo as {_FORMS}.")
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedMediaType(
            f"The Content-Encoding is '{coding[:80]}'. Send the body as it is; image formats are compressed."
        )


async def _read(request: Request, max_bytes: int) -> bytes:
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _from_form(request, max_bytes)
    if media_type == "application/json":
        return await _from_json(request, max_bytes)
    if media_type.startswith("image/"):
        return await _join(request, max_bytes)
    found = f"The Content-Type is '{media_type[:80]}'." if media_type else "There is no Content-Type."
    raise UnsupportedMediaType(f"{found} Send a photo as {_FORMS}.")


def check_photo_size(num_bytes: int, max_bytes: int) -> None:
    """Raises UploadTooLarge if a photo of a batch has more than `max_bytes`."""
    if num_bytes > max_bytes:
        raise _too_large(f"The photo has {num_bytes:,} bytes", max_bytes)


def _too_large(found: str, max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"{found}; at most {max_bytes:,} bytes are taken. Send a smaller or more compressed photo."
    )


async def _within(max_s: float, reading: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(max_s):
            return await reading
    except TimeoutError as error:
        raise UploadTooSlow(
            f"The body was not complete after {max_s:g} s. Send a smaller photo, or over a faster line."
        ) from error


async def _chunks(request: Request, max_bytes: int) -> AsyncGenerator[bytes]:
    """The chunks of the body, counted as they arrive."""
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large("The body goes on beyond the limit", max_bytes)
        request.state.body.grow(len(chunk))
        yield chunk
    if not num_bytes:
        raise EmptyBody(f"The request has no body. Send a photo as {_FORMS}.")


async def _feed(request: Request, feed: Callable[[bytes], object], max_bytes: int) -> None:
    async for chunk in _chunks(request, max_bytes):
        feed(chunk)


async def _join(request: Request, max_bytes: int) -> bytes:
    return b"".join([chunk async for chunk in _chunks(request, max_bytes)])


async def _from_json(request: Request, max_bytes: int) -> bytes:
    parser = JsonPhotoParser()
    await _feed(request, parser.feed, max_bytes)
    return parser.close()


async def _from_form(request: Request, max_bytes: int) -> bytes:
    photos = await _read_form(request, max_bytes, max_fields=_MAX_FIELDS)
    if len(photos) > 1:
        raise InvalidForm(f"The form holds {len(photos)} files '{FIELD}'. Send one photo in a request.")
    return photos[0].data


class _FormParser(MultiPartParser):
    """Starlette's form parser, with files of any size in memory; a truncated form is an error."""

    spool_max_size = 0
    _is_complete = False

    def __init__(self, request: Request, max_bytes: int, max_fields: int) -> None:
        if len(content_type := request.headers["content-type"]) > _MAX_TYPE_LENGTH:
            raise MultiPartException(f"the Content-Type has more than {_MAX_TYPE_LENGTH} characters")
        self._boundary = b"\r\n--" + parse_options_header(content_type)[1].get(b"boundary", b"")
        chunks = self._check(_chunks(request, max_bytes))
        super().__init__(request.headers, chunks, max_files=max_fields, max_fields=max_fields)

    def on_headers_finished(self) -> None:
        part = self._current_part
        coding = dict(part.item_headers).get(b"content-transfer-encoding", b"binary")
        if coding.lower() not in (b"binary", b"8bit", b"7bit"):
            raise MultiPartException(
                f"Content-Transfer-Encoding is '{coding[:40].decode('latin-1')}'; send bytes"
            )
        disposition = part.content_disposition or b""
        if b"*" in disposition:
            part.content_disposition = _without_extended(disposition)
        # Forms have no parameter `charset` (RFC 7578, section 8), and some of Python's codecs take minutes.
        self._charset = "utf-8"
        super().on_headers_finished()

    def on_end(self) -> None:
        self._is_complete = True

    async def _check(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        num_boundaries = 0
        async for chunk in chunks:
            num_boundaries += chunk.count(self._boundary)
            if num_boundaries > _MAX_BOUNDARIES:
                raise MultiPartException(f"its boundary comes in it more than {_MAX_BOUNDARIES} times")
            yield chunk
        if not self._is_complete:
            raise MultiPartException("it ends before its last boundary")


def _without_extended(disposition: bytes) -> bytes:
    """Content-Disposition with `filename` for `filename*` alone. RFC 7578, section 4.2, forbids both `*`.

    Source of `charset'language'value`: RFC 8187. Only UTF-8 is known.
    """
    _, options = parse_options_header(disposition.replace(b"*", b"+"))  # those with `*` are left out
    if b"name" not in options and b"name+" in options:
        raise MultiPartException("a field is named by 'name*'; use 'name'")
    if b"filename" in options or b"filename+" not in options:
        return disposition
    file_name = unquote_to_bytes(options[b"filename+"].rpartition(b"'")[2])
    return disposition + b'; filename="%b"' % file_name.replace(b"\\", rb"\\").replace(b'"', rb"\"")


async def _read_form(request: Request, max_bytes: int, *, max_fields: int) -> list[UploadedPhoto]:
    """The files of the form, at least one."""
    try:
        form = await _FormParser(request, max_bytes, max_fields).parse()
    except MultiPartException as error:
        reason = str(error.__cause__ or error.message).rstrip(".")
        raise InvalidForm(f"The form cannot be read: {reason}.") from error
    try:
        files = enumerate(_photos_of(form))
        return [UploadedPhoto(index, file.filename or "", await file.read()) for index, file in files]
    finally:
        await form.close()


def _photos_of(form: FormData) -> list[UploadFile]:
    names = [name for name, _ in form.multi_items()]
    if FIELD not in names:
        found = f"the fields {quoted(names)}" if names else "no fields"
        raise MissingField(f"The form holds {found}. Send the photo as a file in the field '{FIELD}'.")
    photos = [photo for photo in form.getlist(FIELD) if isinstance(photo, UploadFile)]
    if len(photos) < names.count(FIELD):
        raise MissingField(f"'{FIELD}' is a text field. Send the photo as a file, with a file name.")
    if others := sorted(set(names) - {FIELD}):
        raise options_in_body(quoted(others))
    return photos
