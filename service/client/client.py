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
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

from service.client.exchange import open_http, root_cause, send
from service.client.loop_thread import LoopThread
from service.client.models import (
    CallFailed,
    CallTimedOut,
    PhotoEyes,
    Readiness,
    Synthesis,
    UnexpectedAnswer,
    Unreachable,
    parse_image,
    parse_json,
)
from service.client.retries import ResponseRefused, RetryPolicy
from service.errors import InvalidParameter

P = ParamSpec("P")
T = TypeVar("T")

Photo = bytes | str | os.PathLike[str] | NDArray[np.uint8]
"""A file's bytes, its path, or pixels H x W x 3 uint8 RGB, upright."""

Side = Literal["auto", "left", "right"]
Person = Literal["largest"] | int
Input = Literal["auto", "photo", "eye"]
Format = Literal["png", "jpeg", "webp"]
Layout = Literal["first", "grid"]

MAX_RESPONSE_BYTES: Final = 20_000_000
"""Limit of a response: 20 faces of 700 × 700 pixels as PNG in base64."""

_ADDRESS: Final = "http://127.0.0.1:8000"
_PATIENT: Final = RetryPolicy()
_JSON: Final = "application/json"


class AsyncClient(AbstractAsyncContextManager["AsyncClient"]):
    """Client for asyncio; tasks of one loop may share it. Close it, or use it as a context manager."""

    def __init__(
        self,
        address: str = _ADDRESS,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = _PATIENT,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """`timeout_s`: longest silence of the service; `verify`: as in httpx.

        Raises:
            InvalidParameter: the address or the key is invalid.
        """
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
            raise InvalidParameter("The key is empty or holds a character that no header can carry.")
        self._address, self._timeout_s, self._retry = address, timeout_s, retry
        headers = {"x-api-key": key} if key else {}
        self._http = open_http(address, headers, timeout_s=timeout_s, verify=verify)

    async def synthesize(  # noqa: PLR0913  every parameter is an argument
        self,
        photo: Photo,
        *,
        eye: Side = "auto",
        person: Person = "largest",
        input: Input = "auto",
        format: Format = "png",
        label: bool = False,
        guesses: int = 1,
        seed: int = 0,
        layout: Layout = "first",
    ) -> bytes:
        """The image file of one synthetic face; with `label` the letters "AI" are in a corner of it.

        With `layout="grid"` it shows the face and further `guesses`, which `seed` decides.

        Raises:
            Eye2FaceError: the service answered an error, or nothing (`CallFailed`).
            OSError: the photo's file cannot be read.
        """
        media_type = f"image/{format}"
        query: dict[str, str | int] = {
            "eye": eye, "person": person, "input": input, "format": format, "label": label,
            "guesses": guesses, "seed": seed, "layout": layout,
        }  # fmt: skip
        return parse_image(await self._post("/synthesize", photo, media_type, query), media_type)

    async def synthesize_faces(  # noqa: PLR0913  every parameter is an argument
        self,
        photo: Photo,
        *,
        eye: Side = "auto",
        person: Person | Literal["all"] = "all",
        input: Input = "auto",
        format: Format = "png",
        label: bool = False,
        guesses: int = 1,
        seed: int = 0,
    ) -> Synthesis:
        """The faces of everybody in the photo, each with its eye, quality and further guesses.

        Raises:
            Eye2FaceError, OSError: as `synthesize`; with `all`, refused eyes are in the answer.
        """
        query = {"eye": eye, "person": person, "input": input, "format": format, "label": label}
        query |= {"guesses": guesses, "seed": seed}
        return parse_json(await self._post("/synthesize", photo, _JSON, query), Synthesis)

    async def find_eyes(self, photo: Photo, *, all: bool = False) -> PhotoEyes:
        """The detected eyes; with `all` also detections below the threshold.

        Raises:
            Eye2FaceError, OSError: as `synthesize`.
        """
        return parse_json(await self._post("/eyes", photo, _JSON, {"all": all}), PhotoEyes)

    async def check_ready(self) -> Readiness:
        """The device and model in use; no retries.

        Raises:
            NotReady: photos cannot be processed.
            CallFailed: there was no answer.
        """
        request = self._http.build_request("GET", "/readyz", headers={"accept": _JSON})
        return parse_json(await self._send(request, replace(self._retry, max_tries=1)), Readiness)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _post(
        self, path: str, photo: Photo, accept: str, query: Mapping[str, str | int]
    ) -> httpx.Response:
        body = photo if isinstance(photo, bytes) else await asyncio.to_thread(encode_photo, photo)
        headers = {"accept": accept, "content-type": "image/*"}  # the service detects the format
        request = self._http.build_request("POST", path, params=query, headers=headers, content=body)
        return await self._send(request, self._retry)

    async def _send(self, request: httpx.Request, retry: RetryPolicy) -> httpx.Response:
        outcome, num_tries = await send(self._http, request, retry, max_bytes=MAX_RESPONSE_BYTES)
        if isinstance(outcome, httpx.Response):
            return outcome
        raise self._as_error(outcome, num_tries) from outcome

    def _as_error(self, outcome: httpx.TransportError, num_tries: int) -> CallFailed:
        if isinstance(outcome, (httpx.ReadTimeout, httpx.WriteTimeout)):
            in_all_s = self._retry.deadline_s
            return CallTimedOut(
                f"{self._address} did not answer in time: {min(self._timeout_s, in_all_s):g} s "
                f"without a byte, or {in_all_s:g} s in all. Try later, or allow more time."
            )
        if isinstance(outcome, ResponseRefused):
            return UnexpectedAnswer(f"The answer of {self._address} is not read: {outcome}.")
        return Unreachable(
            f"{self._address} cannot be reached after {num_tries} tries: "
            f"{root_cause(outcome)}. Is the service running there?"
        )


def _blocking(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    """The method for callers that block."""

    @wraps(method)
    def call(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client._loop.run(method, client._client, *args, **kwargs)

    return call


class Client(AbstractContextManager["Client"]):
    """`AsyncClient` for callers that block; thread-safe. Close it, or use it as a context manager."""

    def __init__(
        self,
        address: str = _ADDRESS,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = _PATIENT,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """As `AsyncClient`."""
        self._client = AsyncClient(address, key=key, timeout_s=timeout_s, retry=retry, verify=verify)
        self._loop = LoopThread()

    synthesize = _blocking(AsyncClient.synthesize)
    synthesize_faces = _blocking(AsyncClient.synthesize_faces)
    find_eyes = _blocking(AsyncClient.find_eyes)
    check_ready = _blocking(AsyncClient.check_ready)

    def close(self) -> None:
        """Closes the connections."""
        self._loop.close(self._client.close)

    def __exit__(self, *_: object) -> None:
        self.close()


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
