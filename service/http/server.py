"""Runs the service in uvicorn: startup message, TLS, signals and startup errors."""

import asyncio
import math
import os
import signal
import socket
import sys
from functools import partial
from types import FrameType

import cv2
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.local_requests import refuse_foreign
from service.access.tls import server_context, tls_handshake_timeout
from service.errors import Eye2FaceError
from service.http.app import create_app
from service.http.protocol import HttpProtocol
from service.observability.logs import log_native_lines, logging_config
from service.settings import Settings
from service.system.memory import freeze_garbage_collector, keep_freed_memory
from service.system.ports import open_port


def run_server(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        ModelError: the model cannot be used.
        ConfigurationError: the address is taken, or the settings or a file that they name cannot be used.
    """
    open_port(settings.host, settings.port, settings="EYE2FACE_HOST and EYE2FACE_PORT").close()
    keep_freed_memory()
    log_native_lines()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged images are expected
    chain, key = settings.tls_cert_file, settings.tls_key_file
    context = None if chain is None else server_context(chain, key)
    app = _StartupErrors(create_app(settings))
    config = uvicorn.Config(
        app,
        settings.host,
        settings.port,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        http=_protocol(settings),
        ws="none",
        lifespan="on",
        server_header=False,
        access_log=False,  # the middleware logs request ID and code
        log_config=logging_config(settings.log_format, settings.log_level),
        timeout_keep_alive=75,  # longer than load balancers keep idle connections: 60 s
        timeout_graceful_shutdown=math.ceil(settings.stop_timeout_s),
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    # After a graceful shutdown uvicorn raises the signal again, which would exit with status 143.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _Server(config, settings).run()
    except KeyboardInterrupt:  # raised by uvicorn after a graceful shutdown
        return
    except SystemExit:
        if app.error is None:
            raise
        raise app.error from None


def _protocol(settings: Settings) -> type[asyncio.Protocol]:
    check = partial(refuse_foreign, allowed_origins=settings.cors_origins) if settings.is_local_only else None
    return partial(HttpProtocol, check=check)  # type: ignore[return-value]  # uvicorn only calls it


class _StartupErrors:
    """The application; keeps our errors at startup, which uvicorn would log as tracebacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: Eye2FaceError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: list[Message] = []

        async def send_or_hold(message: Message) -> None:
            if message["type"] in ("lifespan.startup.failed", "lifespan.shutdown.failed"):  # a traceback
                failed.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_or_hold)
        except Eye2FaceError as error:
            self.error = error
            failed = [{"type": "lifespan.startup.failed", "message": ""}]
        except asyncio.CancelledError:  # a second Ctrl+C
            failed = [{**message, "message": ""} for message in failed]
            raise
        finally:
            for message in failed:
                await send(message)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends serving when its requests are done, and a start at once.

        A start has nothing to end, and its model may be running, which Python's own end would not survive.
        """
        if not self.started:
            os._exit(0)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        with tls_handshake_timeout(asyncio.get_running_loop()):
            await super().startup(sockets)
        if not self.started:
            return
        freeze_garbage_collector()
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        scheme = "https" if self.config.is_ssl else "http"
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        print(startup_message(address, self._settings), flush=True)


def startup_message(address: str, settings: Settings) -> str:
    """The message once photos can be sent; with the documentation and the key where there are any."""
    described = f"The API is described on {address}/docs. " if settings.docs else ""
    key = " -H 'X-API-Key: KEY'" if settings.api_keys or settings.api_keys_file else ""
    return (
        f"\n  eye2face is ready on {address}\n"
        f"  Open it in a browser, or send a photo:\n"
        f"    curl -f -F image=@photo.jpg{key} {address}/synthesize -o face.png\n"
        f"  {described}Stop with Ctrl+C.\n"
    )
