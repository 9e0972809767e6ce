"""Access control: API key, then per-caller limits, before the body is read."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.access.api_keys import ApiKey, KeyStore
from service.access.rate_limits import ConcurrencyLimit, RateLimit
from service.settings import Settings
from service.system.host import count_cores

BearerKey = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]
HeaderKey = Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]
"""How a key is sent, for OpenAPI: `authenticate` reads it from the request."""

_IPV6_CUSTOMER_BITS = 64
"""The smallest network of one customer; its single addresses are free. Source: RFC 6177."""

_MAX_ADDRESS = 45
"""Characters of the longest address: IPv6 around IPv4."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Which callers some routes admit: whether they need an API key, and the limits of each."""

    needs_key: bool
    rate: RateLimit
    concurrency: ConcurrencyLimit

    @contextmanager
    def admit(self, request: Request) -> Iterator[None]:
        """Admits a request until it is answered, while the context lasts.

        Raises:
            Unauthorized: it has no valid API key, and needs one.
            RateLimited, TooManyRequests: its key, or without keys its address, is over a limit.
        """
        key = authenticate(request) if self.needs_key else None
        request.state.caller = caller = key.hash if key else _client_network(request)
        with self.concurrency.enter(caller):
            self.rate.charge(caller)
            yield


class AccessControl:
    """The API keys of one service, and the limits of each caller."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError: the file of keys cannot be used."""
        self.keys = KeyStore(settings.api_keys, settings.api_keys_file)
        rate = RateLimit(settings.max_requests_per_minute)
        concurrency = ConcurrencyLimit(settings.max_concurrent_requests)
        self.photos = Admission(True, rate, concurrency)
        verification_rate = RateLimit(settings.max_verifications_per_minute)
        # Uploads included: without a key they must not fill the memory of those with one.
        self.verification = Admission(settings.verify == "key", verification_rate, ConcurrencyLimit(4))
        self.verifications = ConcurrencyLimit(max(1, count_cores() // 2))
        """Of all callers together: a verification takes as long as ten faces."""
        self.is_open = not (self.keys.is_configured or rate.is_set or concurrency.is_set)
        """Whether there are neither keys nor limits."""


def authenticate(request: Request) -> ApiKey | None:
    """The API key of a request; None if no keys are configured.

    Raises:
        Unauthorized: the request has no valid key.
    """
    access: AccessControl = request.app.state.access
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    sent = bearer.strip() if scheme.lower() == "bearer" else None
    found = access.keys.check(sent, request.headers.get("x-api-key"))
    if found is not None:
        request.state.key = found.log_name  # for the request log
    return found


async def require_key(request: Request, bearer: BearerKey, key: HeaderKey) -> None:
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
    except ValueError:  # a Unix socket, or what a trusted proxy says
        return host[:_MAX_ADDRESS]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_CUSTOMER_BITS), strict=False))
