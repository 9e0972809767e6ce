"""The HTTP service as an ASGI application: middleware, routers, startup and shutdown.

Worker threads process photos, so that health checks and documentation never wait for them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypedDict

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from service import __version__
from service.access.admission import AccessControl
from service.engine.engine import Engine
from service.engine.model_reload import watch_for_reloads
from service.http import pages
from service.http.middleware import PROBES, RequestMiddleware
from service.http.open_inference import routes as open_inference
from service.http.openapi import build_openapi
from service.http.problems import HANDLED_ERRORS, CrossOriginMiddleware, problem_response
from service.http.request_body import UploadMemoryLimit
from service.http.routes import about
from service.http.routes.photos import photo_routes
from service.http.routes.verify import verify_routes
from service.inference.catalog import Catalog
from service.observability.metrics import Metrics
from service.observability.tracing import is_configured, require_tracing_packages, warn_if_not_exported
from service.provenance.verification import Verifier
from service.settings import Settings, warn_about_unknown_variables
from service.system.memory import count_memory

_UPLOADS_MEMORY_DIVISOR: Final = 8
"""Request bodies and responses may take 1/8 of the memory. A form is in memory twice while it is
parsed, and pixels may take a half (`service.decoding.reader`)."""

_UNTRACED: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""Without this, FastAPI checks in each request whether OpenTelemetry is configured."""

_TRACED: Final[TelemetryConfig] = {
    **_UNTRACED,  # Prometheus has the metrics, and OpenTelemetry logs would hold what callers send
    "tracing": True,
    "operation_spans": False,
    "exclude": lambda scope: scope.get("path") in PROBES,
}


class _State(TypedDict):
    engine: Engine
    metrics: Metrics


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application; its lifespan loads the model.

    Raises:
        ConfigurationError: it would accept anonymous requests from other machines, its tracing packages are
            not installed, or its file of API keys or of a secret cannot be used.
    """
    settings.check_exposure()
    if settings.tracing:
        require_tracing_packages()
    app = FastAPI(
        title="eye2face",
        version=__version__,
        lifespan=_lifespan,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_TRACED | {"auto_configure": not is_configured()} if settings.tracing else _UNTRACED,
    )
    app.state.settings = settings
    app.state.catalog = Catalog(settings.models_dir)
    app.state.access = AccessControl(settings)
    app.state.verifier = Verifier.open(settings)
    app.state.uploads = UploadMemoryLimit(count_memory() // _UPLOADS_MEMORY_DIVISOR)
    app.state.metrics = Metrics()
    if settings.cors_origins:
        app.add_middleware(
            CrossOriginMiddleware,  # no cookies
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "X-API-Key", "Content-Type", "X-Deadline-Ms"),
            expose_headers=("X-Synthetic", "X-Marking", "X-Request-Id", "X-Device", "Retry-After"),
        )
    app.add_middleware(
        RequestMiddleware,
        metrics=app.state.metrics,
        traced=settings.tracing,
        has_watermark=settings.marking == "required",
    )
    for error in HANDLED_ERRORS:
        app.add_exception_handler(error, problem_response)
    for router in (photo_routes, verify_routes, open_inference.inference_routes):
        app.router.routes += router.routes  # in an included router, FastAPI matches each request four times
    for router in (
        about.model_routes,
        about.health_routes,
        about.policy_routes,
        pages.page,
        *open_inference.other_routes,
    ):
        app.include_router(router)
    if settings.docs:
        app.include_router(pages.documentation)
    app.mount("/web", pages.WholeFiles(directory=pages.WEB))
    app.openapi = partial(build_openapi, app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[_State]:
    warn_about_unknown_variables()
    if app.state.settings.tracing:
        warn_if_not_exported()
    engine = Engine(app.state.settings, app.state.metrics)
    try:
        async with watch_for_reloads(engine.model, app.state.settings):
            yield {"engine": engine, "metrics": app.state.metrics}
    finally:
        await asyncio.to_thread(engine.close)
