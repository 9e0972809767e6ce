"""The limit of connections, and the response to a request that the protocol refuses."""

import resource
from typing import Any, Final

from service.errors import RequestError
from service.http.middleware import record_refusal
from service.http.problems import raw_problem

_DESCRIPTORS: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # below 0: any number

MAX_CONNECTIONS: Final = 1000 if _DESCRIPTORS < 0 else min(1000, _DESCRIPTORS // 2)
"""Half of the descriptors are left for files, and for connections in a handshake of TLS."""


def make_room(newcomer: Any) -> None:
    """Closes the connection that has waited longest for its client, in favor of a new `HttpProtocol`."""
    others = (each for each in newcomer.connections if each is not newcomer and not each.is_closing())
    waiting = filter(lambda each: each.awaits_client, others)
    min(waiting, key=lambda each: each.begun_at, default=newcomer).transport.abort()


def record_refused(connection: Any, error: RequestError) -> bytes:
    """The response to a refused request of a `HttpProtocol`, which is recorded here."""
    scope: dict[str, Any] = {"method": "-", "path": "", "client": connection.client, "headers": []}
    if connection.phase != "idle" and connection.url:
        method, path = (each.decode("latin-1") for each in (connection.parser.get_method(), connection.url))
        scope |= {"method": method, "path": path.partition("?")[0]}
        scope |= {**connection.scope, "headers": connection.headers}
    metrics, own = connection.app_state.get("metrics"), connection.server_state.default_headers
    request_id = record_refusal(metrics, scope, error, connection.loop.time() - connection.begun_at)
    return raw_problem(error, own, path=scope["path"], request_id=request_id)
