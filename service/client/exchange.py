"""HTTP exchanges with one server: retried, of bounded length, and over at their deadline.

The deadline holds for all of it, whatever drips: name lookup, connection, TLS, head, interim responses (1xx),
body and retries. Redirects, proxies of the environment, .netrc and cookies are ignored.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from service.client.retries import ResponseRefused, RetryPolicy, TryOutcome
from service.errors import InvalidParameter

_CONNECT_S: Final = 5.0
"""Connect timeout: a busy server still accepts connections."""

_LONGEST_S: Final = 86_400.0
"""What a server is told of a deadline that is farther away, or never."""

_REDIRECT: Final = "eye2face.redirect"


def open_http(
    address: str, headers: Mapping[str, str], *, timeout_s: float, verify: ssl.SSLContext | bool
) -> httpx.AsyncClient:
    """Connections to a server, for one event loop; `timeout_s` is the longest silence.

    Raises:
        InvalidParameter: the address is invalid.
    """
    try:
        url = httpx.URL(address)
        has_host = bool(url.host)
    except (httpx.InvalidURL, UnicodeError) as error:  # the latter of IDNA
        raise InvalidParameter(f"The address '{address[:80]}' is none: {error}.") from error
    if url.scheme not in ("http", "https") or not has_host:
        raise InvalidParameter(f"The address '{address[:80]}' is none; write it as http://127.0.0.1:8000.")
    return httpx.AsyncClient(
        base_url=url,
        headers={"accept-encoding": "identity", "user-agent": "eye2face", **headers},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
        event_hooks={"response": [_hide_redirect]},
        trust_env=False,
        verify=verify,
    )


async def send(
    http: httpx.AsyncClient, request: httpx.Request, retry: RetryPolicy, *, max_bytes: int
) -> tuple[TryOutcome, int]:
    """The last response, of at most so many bytes, or the error of the last try; and the number of tries."""
    end, num_tries = time.monotonic() + retry.deadline_s, 0
    while True:
        outcome: TryOutcome
        num_tries += 1
        left_s = max(end - time.monotonic(), 0.001)
        request.headers["x-deadline-ms"] = str(int(min(left_s, _LONGEST_S) * 1000))
        try:
            async with asyncio.timeout(left_s), aclosing(await http.send(request, stream=True)) as response:
                body = await _read(response, max_bytes)
                headers = [*response.headers.multi_items(), *response.extensions[_REDIRECT]]
                outcome = httpx.Response(response.status_code, headers=headers, content=body)
        except TimeoutError:
            outcome = httpx.ReadTimeout("the deadline is over")
        except httpx.TransportError as error:
            outcome = error
        wait_s = retry.wait_s(outcome, num_tries, end - time.monotonic())
        if wait_s is None:
            return outcome, num_tries
        await asyncio.sleep(wait_s)


def root_cause(error: httpx.TransportError) -> str:
    """What the system said, such as `Connection refused`, which asyncio hides behind a general message."""
    cause: BaseException = error
    while found := getattr(cause, "exceptions", (cause.__cause__ or cause.__context__,))[0]:
        cause = found
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)
    return str(cause) or str(error) or type(error).__name__


async def _hide_redirect(response: httpx.Response) -> None:
    """Hides where a response redirects to: httpx follows it nowhere, but fails where it is no URL."""
    response.extensions[_REDIRECT] = [("location", where) for where in response.headers.get_list("location")]
    response.headers.pop("location", None)


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    coding = response.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise ResponseRefused(f"it is encoded as {coding[:40]}, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise ResponseRefused(f"it is longer than {max_bytes:,} bytes")
    return bytes(body)
