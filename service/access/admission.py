"""Access control: API key, then per-caller limits, before the body is read."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.access.api_keys import ApiKey, KeyStore
from service.access.rate_limits import ConcurrencyLimit, RateLimit
from service.settings import Settings
from service.system.host import count_cores

_IPV6_CUSTOMER_BITS = 64
"""The smallest network of one customer; its single addresses are free. Source: RFC 6177."""


class AccessControl:
    """The API keys of one service, and the limits of each caller."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError: the file of keys cannot be used."""
        self.keys = KeyStore(settings.api_keys, settings.api_keys_file)
        self.rate = RateLimit(settings.max_requests_per_minute)
        self.concurrency = ConcurrencyLimit(settings.max_concurrent_requests)
        self.verification_needs_key = settings.verify == "key"
        self.verification_rate = RateLimit(settings.max_verifications_per_minute)
        self.verifications_of_caller = ConcurrencyLimit(4)
        """Uploads included: without a key they must not fill the memory of those with one."""
        self.verifications = ConcurrencyLimit(max(1, count_cores() // 2))
        """Of all callers together: a verification takes as long as ten faces."""
        self.is_open = not (self.keys.is_configured or self.rate.is_set or self.concurrency.is_set)
        """Whether there are neither keys nor limits."""

    def charge(self, request: Request, num_requests: int) -> None:
        """Charges more requests to the caller of an admitted one.

        Raises:
            RateLimited: they exceed its rate.
        """
        if not self.is_open:
            self.rate.charge(request.state.caller, num_requests)


@contextmanager
def admit(request: Request) -> Iterator[None]:
    """Admits a request until it is answered, while the context lasts.

    Raises:
        Unauthorized: it has no valid API key.
        RateLimited, TooManyRequests: its key, or without keys its address, is over a limit.
    """
    access: AccessControl = request.app.state.access
    key = authenticate(request)
    request.state.caller = caller = key.hash if key else _client_network(request)
    with access.concurrency.enter(caller):
        access.rate.charge(caller)
        yield


@contextmanager
def admit_verification(request: Request) -> Iterator[None]:
    """Admits a request to verify a picture, for which the limits of other requests do not count.

    Raises:
        Unauthorized: the settings want a key, and it has none.
        RateLimited, TooManyRequests: its key, or its address, is over a limit.
    """
    access: AccessControl = request.app.state.access
    key = authenticate(request) if access.verification_needs_key else None
    caller = key.hash if key else _client_network(request)
    with access.verifications_of_caller.enter(caller):
        access.verification_rate.charge(caller)
        yield


def authenticate(request: Request) -> ApiKey | None:
    """The API key of a request; None if no keys are configured.

    Raises:
        Unauthorized: the request has no valid key.
    """
    access: AccessControl = request.app.state.access
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    sent = bearer.strip() if scheme.lower() == "bearer" else None
    found = access.keys.ring().check(sent, request.headers.get("x-api-key"))
    if found is not None:
        request.state.key = found.label  # for the request log
    return found


async def require_key(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))],
    key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> None:
    """FastAPI dependency that requires an API key, and describes in OpenAPI how to send it.

    Raises:
        Unauthorized: the request has no valid key.
    """
    authenticate(request)


def _client_network(request: Request) -> str:
    """The address that a request comes from; of IPv6 the network of one customer."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a Unix socket, or a test without a network
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_CUSTOMER_BITS), strict=False))
