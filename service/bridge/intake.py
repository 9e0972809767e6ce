"""The intake of pictures over HTTP: `POST /cameras/{camera}/pictures`."""

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from service.access.admission import AccessControl, authenticate
from service.access.local_requests import refuse_foreign
from service.bridge.pictures import is_picture, picture_event
from service.bridge.sources import CAMERA, MAX_PHOTO_BYTES, CameraEvent
from service.errors import InvalidParameter, NotAnImage, NotReady
from service.http.middleware import RequestMiddleware
from service.http.problems import HANDLED_ERRORS, STOPPED, problem_response
from service.http.protocol import HttpProtocol
from service.http.request_body import BodyReservation, UploadMemoryLimit, check_photo_size, read_photo
from service.observability.metrics import Metrics
from service.settings import BridgeSettings, Settings
from service.system.ports import open_port

_MAX_BODY_BYTES: Final = MAX_PHOTO_BYTES * 4 // 3 + 1000
"""Of a picture in base64."""

_ADVICE: Final = "Others need API keys: EYE2FACE_BRIDGE_API_KEYS_FILE."
_MAX_UPLOADS_BYTES: Final = 100_000_000
_UPLOAD_S: Final = 30.0
_STOP_S: Final = 3

_log = logging.getLogger(__name__)


class PictureIntake:
    """Serves that route in a thread of its own; `accept` is called by others."""

    def __init__(
        self,
        settings: BridgeSettings,
        accept: Callable[[CameraEvent], None],
        refuse_if_full: Callable[[], None],
    ) -> None:
        """`accept` keeps an event, and raises Eye2FaceError if it cannot; `refuse_if_full` spares an upload.

        Raises:
            ConfigurationError: the address or the file of keys cannot be used.
        """
        self._settings, self._accept, self._refuse_if_full = settings, accept, refuse_if_full
        check = None if settings.api_keys_file else partial(refuse_foreign, advice=_ADVICE)
        config = uvicorn.Config(
            self._app(),
            http=partial(HttpProtocol, check=check),  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            lifespan="off",
            server_header=False,
            access_log=False,
            log_config=None,
            log_level="warning",
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = uvicorn.Server(config)
        names = "EYE2FACE_BRIDGE_HTTP_HOST and EYE2FACE_BRIDGE_HTTP_PORT"
        self._socket = open_port(settings.http_host, settings.http_port, settings=names)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="pictures", daemon=True
        )

    def open(self) -> None:
        """Starts to take pictures."""
        self._thread.start()
        _log.info("takes pictures on %s, port %d", self._settings.http_host, self._settings.http_port)

    def close(self) -> None:
        """Answers the requests that have begun, and closes the port."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _app(self) -> FastAPI:
        app = FastAPI(openapi_url=None, telemetry={"tracing": False, "metrics": False, "logs": False})
        own = Settings.model_construct(api_keys_file=self._settings.api_keys_file)
        app.state.access = AccessControl(own)
        app.state.uploads = UploadMemoryLimit(_MAX_UPLOADS_BYTES)
        app.add_middleware(RequestMiddleware, metrics=Metrics())
        for error in HANDLED_ERRORS:
            app.add_exception_handler(error, problem_response)
        app.add_route("/cameras/{camera}/pictures", self._take, methods=["POST"])
        return app

    async def _take(self, request: Request) -> Response:
        """The ID of an accepted picture."""
        authenticate(request)
        camera = self._read_camera(request.path_params)
        self._refuse_if_full()
        uploads: UploadMemoryLimit = request.app.state.uploads
        with closing(BodyReservation(uploads)) as request.state.body:
            try:
                picture = await read_photo(request, max_bytes=_MAX_BODY_BYTES, max_s=_UPLOAD_S)
                check_photo_size(len(picture), MAX_PHOTO_BYTES)
                if not is_picture(picture):
                    raise NotAnImage(f"The {len(picture):,} bytes are no JPEG, PNG or WebP.")
                event = await asyncio.to_thread(picture_event, camera, picture)
                await asyncio.to_thread(self._accept, event)
            except asyncio.CancelledError as error:
                raise NotReady(STOPPED) from error
        return JSONResponse({"id": event.id}, 202)

    def _read_camera(self, path_params: dict[str, Any]) -> str:
        camera: str = path_params["camera"]
        if not re.fullmatch(CAMERA, camera):
            raise InvalidParameter(f"camera={camera[:40]!r} must be 1 to 64 letters, digits, _ and -.")
        if self._settings.cameras and camera not in self._settings.cameras:
            raise InvalidParameter(f"camera={camera!r} is not one of EYE2FACE_BRIDGE_CAMERAS.")
        return camera
