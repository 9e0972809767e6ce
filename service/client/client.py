"""Python client of the HTTP API, synchronous and for asyncio.

    with Client("http://127.0.0.1:8000", key="...") as service:
        face: bytes = service.synthesize("photo.jpg")

A photo is the bytes of a file, its path, or an array H x W x 3 uint8 RGB. Errors of the service are raised as
its own (`service.errors`); a call without an answer of the service raises `CallFailed`. Requests are
idempotent: transient failures are retried within one deadline, which the service is sent as `X-Deadline-Ms`.
Proxies of the environment and .netrc are ignored: photos and keys go to the given address only.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from service.client.models import (
    CallTimedOut,
    PhotoEyes,
    Readiness,
    Synthesis,
    UnexpectedAnswer,
    Unreachable,
    parse_image,
    parse_json,
)
from service.client.retries import (
    AttemptOutcome,
    BuildRequest,
    ResponseTooLong,
    RetryPolicy,
    RetryState,
    send,
    send_async,
)
from service.errors import InvalidParameter

Photo = bytes | str | os.PathLike[str] | NDArray[np.uint8]
"""A file's bytes, its path, or pixels H x W x 3 uint8 RGB, upright."""

Side = Literal["auto", "left", "right"]
Person = Literal["largest"] | int
Input = Literal["auto", "photo", "eye"]
Format = Literal["png", "jpeg", "webp"]

_ADDRESS: Final = "http://127.0.0.1:8000"
_PATIENT: Final = RetryPolicy()
_JSON: Final = "application/json"
_CONNECT_S: Final = 5.0
"""Connect timeout: a busy service still accepts connections."""


class Client:
    """Synchronous client; thread-safe. Close it, or use it as a context manager."""

    def __init__(
        self,
        address: str = _ADDRESS,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = _PATIENT,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """`timeout_s`: read timeout of one request; `verify`: as in httpx.

        Raises:
            InvalidParameter: the address or the key is invalid.
        """
        self._endpoint = _Endpoint(address, timeout_s, retry)
        self._http = httpx.Client(**_http_options(address, key), verify=verify)

    def synthesize(
        self,
        photo: Photo,
        *,
        eye: Side = "auto",
        person: Person = "largest",
        input: Input = "auto",
        format: Format = "png",
    ) -> bytes:
        """The image file of one synthetic face.

        Raises:
            Eye2FaceError: the service answered an error, or nothing (`CallFailed`).
            OSError: the photo's file cannot be read.
        """
        query = {"eye": eye, "person": person, "input": input, "format": format}
        call = _Request("/synthesize", f"image/{format}", query, encode_photo(photo))
        return parse_image(self._send(call), call.accept)

    def synthesize_faces(
        self,
        photo: Photo,
        *,
        eye: Side = "auto",
        person: Person | Literal["all"] = "all",
        input: Input = "auto",
        format: Format = "png",
    ) -> Synthesis:
        """The faces of everybody in the photo, each with its eye and quality.

        Raises:
            Eye2FaceError, OSError: as `synthesize`; with `all`, rejected eyes are in the answer.
        """
        query = {"eye": eye, "person": person, "input": input, "format": format}
        return parse_json(self._send(_Request("/synthesize", _JSON, query, encode_photo(photo))), Synthesis)

    def find_eyes(self, photo: Photo, *, all: bool = False) -> PhotoEyes:
        """The detected eyes; with `all` also detections below the threshold.

        Raises:
            Eye2FaceError, OSError: as `synthesize`.
        """
        call = _Request("/eyes", _JSON, {"all": str(all).lower()}, encode_photo(photo))
        return parse_json(self._send(call), PhotoEyes)

    def check_ready(self) -> Readiness:
        """The device and model in use; no retries.

        Raises:
            NotReady: photos cannot be processed.
            CallFailed: there was no answer.
        """
        return parse_json(self._send(_Request("/readyz", _JSON), max_tries=1), Readiness)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: "_Request", max_tries: int | None = None) -> httpx.Response:
        tries = self._endpoint.start(max_tries)
        return self._endpoint.unwrap(send(self._http, self._endpoint.build_request(call), tries), tries)


class AsyncClient:
    """`Client` for asyncio; tasks of one loop may share it. Close it, or use it as a context manager."""

    def __init__(
        self,
        address: str = _ADDRESS,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = _PATIENT,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """As `Client`."""
        self._endpoint = _Endpoint(address, timeout_s, retry)
        self._http = httpx.AsyncClient(**_http_options(address, key), verify=verify)

    async def synthesize(
        self,
        photo: Photo,
        *,
        eye: Side = "auto",
        person: Person = "largest",
        input: Input = "auto",
        format: Format = "png",
    ) -> bytes:
        """As `Client.synthesize`."""
        query = {"eye": eye, "person": person, "input": input, "format": format}
        call = _Request("/synthesize", f"image/{format}", query, await asyncio.to_thread(encode_photo, photo))
        return parse_image(await self._send(call), call.accept)

    async def synthesize_faces(
        self,
        photo: Photo,
        *,
        eye: Side = "auto",
        person: Person | Literal["all"] = "all",
        input: Input = "auto",
        format: Format = "png",
    ) -> Synthesis:
        """As `Client.synthesize_faces`."""
        query = {"eye": eye, "person": person, "input": input, "format": format}
        call = _Request("/synthesize", _JSON, query, await asyncio.to_thread(encode_photo, photo))
        return parse_json(await self._send(call), Synthesis)

    async def find_eyes(self, photo: Photo, *, all: bool = False) -> PhotoEyes:
        """As `Client.find_eyes`."""
        body = await asyncio.to_thread(encode_photo, photo)
        return parse_json(
            await self._send(_Request("/eyes", _JSON, {"all": str(all).lower()}, body)), PhotoEyes
        )

    async def check_ready(self) -> Readiness:
        """As `Client.check_ready`."""
        return parse_json(await self._send(_Request("/readyz", _JSON), max_tries=1), Readiness)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: "_Request", max_tries: int | None = None) -> httpx.Response:
        tries = self._endpoint.start(max_tries)
        outcome = await send_async(self._http, self._endpoint.build_request(call), tries)
        return self._endpoint.unwrap(outcome, tries)


def encode_photo(photo: Photo) -> bytes:
    """The bytes of an image file; an array is encoded as PNG.

    Raises:
        InvalidParameter: the array is no image.
        OSError: the file cannot be read.
    """
    if isinstance(photo, bytes):
        return photo
    if not isinstance(photo, np.ndarray):
        return Path(photo).read_bytes()
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise InvalidParameter(
            f"The array is {photo.dtype} of shape {photo.shape}; a photo is uint8, height × width × 3, RGB."
        )
    import cv2  # slow to import

    _, file = cv2.imencode(".png", photo[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return file.tobytes()


@dataclass(frozen=True, slots=True)
class _Request:
    """One request, the same for each attempt; POST if it has a body."""

    path: str
    accept: str
    query: Mapping[str, str | int] | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What both clients share: address, timeouts and retries."""

    address: str
    timeout_s: float
    retry: RetryPolicy

    def start(self, max_tries: int | None) -> RetryState:
        return RetryState(self.retry if max_tries is None else replace(self.retry, max_tries=max_tries))

    def build_request(self, call: _Request) -> BuildRequest:
        def build(tries: RetryState) -> dict[str, Any]:
            left_s = max(tries.left_s, 0.001)
            headers = {"accept": call.accept, "x-deadline-ms": str(int(left_s * 1000))}
            if call.body is not None:
                headers["content-type"] = "image/*"  # the service detects the format
            return {
                "method": "GET" if call.body is None else "POST",
                "url": call.path,
                "params": call.query,
                "headers": headers,
                "content": call.body,
                "timeout": httpx.Timeout(min(self.timeout_s, left_s), connect=min(_CONNECT_S, left_s)),
            }

        return build

    def unwrap(self, outcome: AttemptOutcome, tries: RetryState) -> httpx.Response:
        """The response, or the error that there is none."""
        if isinstance(outcome, httpx.Response):
            return outcome
        if isinstance(outcome, (httpx.ReadTimeout, httpx.WriteTimeout)):
            raise CallTimedOut(
                f"{self.address} did not answer in time: {min(self.timeout_s, self.retry.deadline_s):g} s "
                f"without a byte, or {self.retry.deadline_s:g} s in all. Try later, or allow more time."
            ) from outcome
        if isinstance(outcome, ResponseTooLong):
            raise UnexpectedAnswer(f"{self.address} does not stop: {outcome}.") from outcome
        raise Unreachable(
            f"{self.address} cannot be reached after {tries.num_failed} tries: "
            f"{str(outcome) or type(outcome).__name__}. Is the service running there?"
        ) from outcome


def _http_options(address: str, key: str | None) -> dict[str, Any]:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise InvalidParameter(f"The address '{address[:80]}' is none: {error}.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidParameter(f"The address '{address[:80]}' is none; write it as {_ADDRESS}.")
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise InvalidParameter("The key is empty or holds a character that no header can carry.")
    headers = {"accept-encoding": "identity", "user-agent": "eye2face"} | ({"x-api-key": key} if key else {})
    return {"base_url": url, "headers": headers, "trust_env": False}
