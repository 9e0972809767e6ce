"""The picture's bytes out of a request, in any of three forms; knows nothing of pictures.

    image/*               the bytes themselves
    multipart/form-data   one file in the field `image`
    application/json      {"image": base64}

Bytes are counted as they come in; nothing is read beyond the limit, nothing is written to disk.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

from service.access.rate_limits import Body
from service.errors import (
    EmptyBody,
    InvalidForm,
    InvalidJson,
    InvalidParameter,
    MissingField,
    UnsupportedMediaType,
    UploadTooLarge,
    UploadTooSlow,
)
from service.http.multipart import MAX_PARTS, FormReader, Part
from service.http.protocol import CALLER, Caller

FIELD: Final = "image"
_FORMS = "image/*, multipart/form-data with the file in the field 'image', or application/json with base64"


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form, and what its sender calls it."""

    file_name: str
    data: bytes


async def read_picture(request: Request, *, max_bytes: int, max_s: float) -> bytes:
    """The bytes of the picture that the request carries, not yet looked at.

    Raises:
        UploadTooLarge: the body is longer than `max_bytes`, by its Content-Length or by count.
        UploadTooSlow: it was not there after `max_s`.
        Overloaded: together with other bodies it is more than there is room for.
        EmptyBody: there is no body.
        UnsupportedMediaType: the Content-Type is none of the three forms, or the body is compressed.
        MissingField, InvalidForm, InvalidJson, InvalidParameter: the form or JSON is not as it should be.
    """
    _refuse_head(request, max_bytes)
    async with _in_time(request, max_s):
        return await _read(request, max_bytes)


async def read_pictures(request: Request, *, max_bytes: int, max_s: float, max_files: int) -> list[Upload]:
    """The files of the form that the request carries, in their order, not yet looked at.

    Raises:
        UploadTooLarge: the body is longer than `max_bytes`, by its Content-Length or by count.
        UploadTooSlow: it was not there after `max_s`.
        Overloaded: together with other bodies it is more than there is room for.
        EmptyBody, UnsupportedMediaType: there is no form.
        MissingField, InvalidForm, InvalidParameter: it holds something else, or more than `max_files`.
    """
    _refuse_head(request, max_bytes)
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaType(
            f"The Content-Type is '{content_type[:80]}'. Send the photos as multipart/form-data, each as a "
            f"file in a field '{FIELD}'."
        )
    async with _in_time(request, max_s):
        parts = await _read_form(request, content_type, max_bytes, max_parts=max_files)
    return [Upload(part.file_name or "", bytes(part.data)) for part in parts]


def _refuse_head(request: Request, max_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_large(f"{int(length[:20]):,} bytes are announced", max_bytes)
    if length == "0" or (not length and "transfer-encoding" not in request.headers):
        raise EmptyBody(f"The request has no body. Send a photo as {_FORMS}.")
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedMediaType(
            f"The Content-Encoding is '{coding[:80]}'. Send the body as it is; pictures are small already."
        )


def _in_time(request: Request, max_s: float) -> AbstractAsyncContextManager[None]:
    """Raises UploadTooSlow after `max_s` where the body is not there yet; most come with their head."""
    caller: Caller | None = request.scope.get("extensions", {}).get(CALLER)
    return nullcontext() if caller is not None and caller.has_sent_all else _timed(max_s)


@asynccontextmanager
async def _timed(max_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(max_s):
            yield
    except TimeoutError as error:
        raise UploadTooSlow(
            f"The body was not complete after {max_s:g} s. Send a smaller photo, or over a faster line."
        ) from error


async def _read(request: Request, max_bytes: int) -> bytes:
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _from_form(request, content_type, max_bytes)
    if media_type == "application/json":
        return await asyncio.to_thread(_from_json, await _join(request, max_bytes))  # 20 MB take tens of ms
    if media_type.startswith("image/"):
        return await _join(request, max_bytes)
    found = f"The Content-Type is '{media_type[:80]}'." if media_type else "There is no Content-Type."
    raise UnsupportedMediaType(f"{found} Send a photo as {_FORMS}.")


def refuse_size(num_bytes: int, max_bytes: int) -> None:
    """Returns if one photo of several is not too large.

    Raises:
        UploadTooLarge: it is.
    """
    if num_bytes > max_bytes:
        raise _too_large(f"The photo has {num_bytes:,} bytes", max_bytes)


def _too_large(found: str, max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"{found}; at most {max_bytes:,} bytes are taken. Send a smaller or more compressed photo."
    )


async def _take(request: Request, max_bytes: int, write: Callable[[bytes], object]) -> None:
    """Writes the body as it comes in. Starlette's stream() does the same, as generators within generators."""
    body: Body | None = request.scope.get("state", {}).get("body")
    num_bytes = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large("The body goes on beyond the limit", max_bytes)
        if body is not None:
            body.grow(len(chunk))
        write(chunk)
        more = message.get("more_body", False)


async def _join(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    await _take(request, max_bytes, chunks.append)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _from_form(request: Request, content_type: str, max_bytes: int) -> bytes:
    pictures = await _read_form(request, content_type, max_bytes, max_parts=MAX_PARTS)
    if len(pictures) > 1:
        raise InvalidForm(f"The form holds {len(pictures)} files '{FIELD}'. Send one photo in a request.")
    return bytes(pictures[0].data)


async def _read_form(request: Request, content_type: str, max_bytes: int, *, max_parts: int) -> list[Part]:
    """The files of the form, at least one, if it holds nothing else."""
    form = FormReader(content_type, max_parts=max_parts)
    await _take(request, max_bytes, form.write)
    parts = form.finish()
    pictures = [part for part in parts if part.name == FIELD]
    names = [part.name for part in parts]
    if not pictures:
        found = f"the fields {_quoted(names)}" if names else "no fields"
        raise MissingField(f"The form holds {found}. Send the photo as a file in the field '{FIELD}'.")
    if not all(picture.is_file for picture in pictures):
        raise MissingField(f"'{FIELD}' is a text field. Send the photo as a file, with a file name.")
    _refuse_options(names)
    return pictures


def _from_json(body: bytes) -> bytes:
    if not body:
        raise EmptyBody(f"The request has no body. Send a photo as {_FORMS}.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f'The body is not JSON ({error}). Send {{"{FIELD}": base64}}.') from error
    if not isinstance(document, dict):
        raise InvalidJson(f'The JSON is not an object. Send {{"{FIELD}": base64}}.')
    if FIELD not in document:
        names = f"the fields {_quoted(list(document))}" if document else "no fields"
        raise MissingField(f'The JSON object has {names}. Send {{"{FIELD}": base64}}.')
    _refuse_options(list(document))
    return _from_base64(document[FIELD])


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidJson(f"The field '{FIELD}' is no string. Send the photo in base64.")
    if text.startswith("data:"):
        raise InvalidJson(f"The field '{FIELD}' is a data URL. Send only what follows its comma.")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidJson(
            f"The field '{FIELD}' is not base64 ({error}). Use the standard alphabet without line breaks."
        ) from error


def _refuse_options(names: list[str]) -> None:
    others = sorted(set(names) - {FIELD})
    if others:
        raise InvalidParameter(
            f"The body holds {_quoted(others)} beside '{FIELD}'. Options such as eye=left go into the query."
        )


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name[:40]}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
