"""The HTTP service: its start and stop, its routes, and how a request reaches the pipeline and leaves it.

Pictures are worked on by workers in threads of their own, as many as there are cores, so that health and
documentation never wait for them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Annotated, Final, TypedDict, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from service import __version__
from service.access.admission import CORS, Gate, check_key, require_key
from service.access.rate_limits import UploadLimit
from service.engine.engine import Engine
from service.engine.model_reload import watch_for_reloads
from service.errors import NotAcceptable, NotFound, NotReady
from service.http import pages
from service.http.batch import ZIP, BatchAnswer, Outcome, join_json, join_zip
from service.http.deadlines import noticing_leave, read_deadline_ms
from service.http.direct import DirectRoute, Shortcut
from service.http.head_requests import HeadAsGet
from service.http.negotiation import negotiate
from service.http.openapi import (
    BATCH_RESPONSES,
    EYES_RESPONSES,
    METRICS_RESPONSES,
    MODELS_RESPONSES,
    READY_RESPONSES,
    SYNTHESIZE_RESPONSES,
    describe,
    describe_batch_route,
    describe_photo_route,
)
from service.http.problems import EXPECTED, HANDLED, answer_problem, describe_problem
from service.http.query_params import EyesQuery, SynthesizeQuery, read_query
from service.http.request_body import Upload, read_picture, read_pictures, refuse_size
from service.http.request_log import QUIET, Watch
from service.http.responses import (
    EyesAnswer,
    Health,
    ModelsAnswer,
    Readiness,
    Stamps,
    answer_eyes,
    answer_faces,
    answer_models,
)
from service.inference.catalog import Catalog
from service.observability.metrics import MEDIA_TYPE, Metrics
from service.observability.tracing import is_configured, require_tracing_packages, warn_if_not_exported
from service.pipeline import SynthesisOptions
from service.provenance import encode_synthetic
from service.runtime.coalescing import Steps
from service.runtime.host import count_cores
from service.runtime.memory import count_memory
from service.runtime.worker_pool import WorkItem
from service.settings import Settings, warn_about_unknown_variables
from service.vision.images import FaceFormat, encode
from service.vision.photo import StageTimer

T = TypeVar("T")
_JSON = "application/json"
_FORMATS: tuple[FaceFormat, ...] = ("png", "jpeg", "webp")
_OFFERS: Final[dict[FaceFormat | None, tuple[str, ...]]] = {
    None: (*(f"image/{each}" for each in _FORMATS), _JSON),
    **{each: (f"image/{each}", _JSON) for each in _FORMATS},
}
"""The media types of an answer, by the format that was asked for."""


_PART_OF_MEMORY: Final = 8
"""One of so many parts of the memory that there is may be taken by bodies; while a form or JSON is read it is
there twice. Pixels have a half (`service.decoding.reader`)."""

_UNTRACED: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI would ask in each request whether OpenTelemetry is set up."""

_TRACED: Final[TelemetryConfig] = {
    **_UNTRACED,  # the numbers are Prometheus', and its logs hold what callers sent
    "tracing": True,
    "operation_spans": False,
    "exclude": lambda scope: scope.get("path") in QUIET,
}


class _State(TypedDict):
    engine: Engine


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application; the model is loaded when it starts.

    Raises:
        ValueError: it would listen beyond loopback with neither keys nor leave to do so.
        ValueError: it would trace, and what that needs is not installed.
        BadKeys: the file of keys cannot be used.
    """
    settings.check_exposure()
    if settings.tracing:
        require_tracing_packages()
    app = FastAPI(
        title="eye2face",
        version=__version__,
        lifespan=_live,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_TRACED | {"auto_configure": not is_configured()} if settings.tracing else _UNTRACED,
    )
    app.state.settings = settings
    app.state.catalogue = Catalog(settings.models_folder)
    app.state.gate = Gate.open(settings)
    app.state.uploads = UploadLimit(count_memory() // _PART_OF_MEMORY)
    app.state.metrics = Metrics()
    app.add_middleware(HeadAsGet)  # the inner one: photos, which are posted, go by it
    if not settings.tracing:  # the router tells FastAPI's telemetry which route it was
        app.add_middleware(Shortcut, routes=_work.routes, handled=EXPECTED, answer=answer_problem)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **CORS)
    app.add_middleware(Watch, metrics=app.state.metrics, traced=settings.tracing)
    app.add_middleware(Stamps)  # the outer one: it gives the request its id
    for error in HANDLED:
        app.add_exception_handler(error, answer_problem)
    app.router.routes.extend(_work.routes)  # as they are: an included router looks for its route twice
    app.include_router(_catalogue)
    app.include_router(_health)
    app.include_router(pages.page)
    if settings.docs:
        app.include_router(pages.documentation)
    app.mount("/web", StaticFiles(directory=pages.WEB))
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@asynccontextmanager
async def _live(app: FastAPI) -> AsyncIterator[_State]:
    warn_about_unknown_variables()
    if app.state.settings.tracing:
        warn_if_not_exported()
    engine = Engine.open(app.state.settings, app.state.metrics)
    try:
        async with watch_for_reloads(engine.model, app.state.settings):
            yield {"engine": engine}
    finally:
        await asyncio.to_thread(engine.close)


def _find_engine(request: Request) -> Engine:
    engine: Engine | None = getattr(request.state, "engine", None)
    if engine is None:
        raise NotReady("The model is not loaded: the service is starting or stopping. Try again in a moment.")
    return engine


_health = APIRouter(tags=["health"])
_catalogue = APIRouter(tags=["models"], dependencies=[Depends(require_key)])
_work = APIRouter(tags=["photos"], route_class=DirectRoute, dependencies=[Depends(require_key)])


@_health.get("/livez", summary="Does the process answer?")
async def livez() -> Health:
    """Whether the process answers at all."""
    return Health()


@_health.get("/readyz", summary="Can photos be sent?", responses=READY_RESPONSES)
async def readyz(request: Request) -> Readiness:
    """Whether photos can be sent, on which device and to which model they go; never waits for one."""
    engine = _find_engine(request)
    engine.refuse_unready()
    state, last = engine.pool.state(), engine.synthesizer.last_run
    return Readiness(
        device=engine.synthesizer.device,
        model=engine.synthesizer.info.name,
        num_workers=state.num_workers,
        num_busy=state.num_busy,
        num_queued=state.num_queued,
        last_inference_age_s=time.monotonic() - last.at,
        last_inference_ms=last.ms,
    )


@_catalogue.get("/models", summary="Which models are there?", responses=MODELS_RESPONSES)
async def models(request: Request) -> ModelsAnswer:
    """The shipped and mounted models, what they learned from, how they may be used, which one answers."""
    live, catalogue = _find_engine(request).model, request.app.state.catalogue
    entries = await asyncio.to_thread(catalogue.list, live.current.path)
    return answer_models(entries, live, request.state.request_id)


@_health.get(
    "/metrics", summary="Numbers for Prometheus", response_class=Response, responses=METRICS_RESPONSES
)
async def metrics(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))],
    key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> Response:
    """What the service counts and measures; `EYE2FACE_METRICS` says who may read it."""
    settings: Settings = request.app.state.settings
    if settings.metrics == "off":
        raise NotFound("The numbers are switched off: EYE2FACE_METRICS=off.")
    if settings.metrics == "key":
        check_key(request)
    numbers: Metrics = request.app.state.metrics
    return Response(numbers.write(), media_type=MEDIA_TYPE)


@_work.post(
    "/synthesize",
    summary="One eye in, one face out",
    response_class=Response,
    responses=SYNTHESIZE_RESPONSES,
    openapi_extra=describe_photo_route(SynthesizeQuery),
)
async def synthesize(request: Request) -> Response:
    """A face that could belong to the eye in the photo: a guess, never an identification."""
    engine, query = _find_engine(request), read_query(request, SynthesizeQuery)
    media_type = _choose_form(request, query)
    photo = await _read(request, engine)
    options = _choose(query, engine.settings.max_people)
    request_id: str = request.state.request_id
    model = engine.model.current  # to the end of this request, whatever takes its place

    def draw(timer: StageTimer) -> "Steps[bytes]":
        synthesis = yield from model.pipeline.steps(photo, options, timer)
        if media_type == _JSON:
            return answer_faces(synthesis, query.format or "png", model.synthesizer, request_id, timer)
        with timer.span("encode"):
            return encode_synthetic(synthesis.faces[0], _format_of(media_type))

    face: bytes = await _run(request, engine, draw)
    return Response(face, 200, {"X-Device": model.synthesizer.device}, media_type)


@_work.post(
    "/synthesize/batch",
    summary="Several photos, an answer each",
    response_model=BatchAnswer,
    responses=BATCH_RESPONSES,
    openapi_extra=describe_batch_route(),
)
async def synthesize_batch(request: Request) -> Response:
    """What `/synthesize` answers, for each photo of a form; one that fails does not fail the others."""
    engine, query = _find_engine(request), read_query(request, SynthesizeQuery)
    media_type = _accepted(request, (_JSON, ZIP))
    settings: Settings = request.app.state.settings
    engine.pool.refuse_overload()
    uploads = await read_pictures(
        request,
        max_bytes=settings.max_batch_bytes,
        max_s=settings.upload_timeout_s,
        max_files=settings.max_batch_photos,
    )
    request.app.state.gate.charge(request, len(uploads) - 1)
    options, format = _choose(query, settings.max_people), query.format or "png"
    request_id: str = request.state.request_id
    model = engine.model.current

    def draw(upload: Upload, timer: StageTimer) -> "Steps[Outcome]":
        refuse_size(len(upload.data), settings.max_upload_bytes)
        synthesis = yield from model.pipeline.steps(upload.data, options, timer)
        if media_type == ZIP:
            return Outcome(
                upload.file_name, faces=[encode_synthetic(face, format) for face in synthesis.faces]
            )
        answer = answer_faces(synthesis, format, model.synthesizer, request_id, timer)
        return Outcome(upload.file_name, answer)

    outcomes = await _run_all(request, engine, draw, uploads)
    join = partial(join_zip, format=format) if media_type == ZIP else join_json
    body = await asyncio.to_thread(join, outcomes, request_id=request_id)
    return Response(body, 200, {"X-Device": model.synthesizer.device}, media_type)


@_work.post(
    "/eyes",
    summary="What the finder sees",
    response_model=EyesAnswer,
    responses=EYES_RESPONSES,
    openapi_extra=describe_photo_route(EyesQuery),
)
async def eyes(request: Request) -> Response:
    """Every eye that the finder sees, largest person first."""
    engine, query = _find_engine(request), read_query(request, EyesQuery)
    media_type = _accepted(request, ("image/png" if query.overlay else _JSON,))
    photo = await _read(request, engine)
    request_id: str = request.state.request_id
    pipeline = engine.model.current.pipeline

    def look(timer: StageTimer) -> bytes:
        if query.overlay:
            return encode(pipeline.overlay(photo, timer), "png")
        return answer_eyes(pipeline.find(photo, timer), request_id, all=query.all)

    return Response(await _run(request, engine, look), media_type=media_type)


async def _read(request: Request, engine: Engine) -> bytes:
    """The photo's bytes; where it could not be worked on, it need not be sent."""
    settings = engine.settings
    engine.pool.refuse_overload()
    return await read_picture(request, max_bytes=settings.max_upload_bytes, max_s=settings.upload_timeout_s)


async def _run(
    request: Request, engine: Engine, work: Callable[[StageTimer], Steps[T]] | Callable[[StageTimer], T]
) -> T:
    """Lets a worker do it, as long as the caller is there and its time is not over."""
    job = engine.submit(work, max_ms=min(engine.settings.deadline_ms, read_deadline_ms(request)))
    try:
        with noticing_leave(request, job.fail):
            return await job.answer
    finally:
        engine.pool.drop(job)


async def _run_all(
    request: Request,
    engine: Engine,
    work: Callable[[Upload, StageTimer], Steps[Outcome]],
    uploads: list[Upload],
) -> list[Outcome]:
    """Lets workers do it for each upload, a few at once; one deadline and one caller stand for all."""
    settings = engine.settings
    deadline_ms = min(settings.deadline_ms, read_deadline_ms(request))
    end = time.monotonic() + deadline_ms / 1000
    turns = asyncio.Semaphore(settings.num_threads or count_cores())  # others want theirs in between
    running: set[WorkItem[Outcome]] = set()
    left: list[Exception] = []

    def leave(error: Exception) -> None:
        left.append(error)
        for job in running:
            job.fail(error)

    async def run(upload: Upload) -> Outcome:
        async with turns:
            if left:
                raise left[0]
            job: WorkItem[Outcome] | None = None
            try:
                job = engine.submit(partial(work, upload), max_ms=max(1.0, (end - time.monotonic()) * 1000))
                running.add(job)
                return await job.answer
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001  # the other photos have their answers all the same
                return Outcome(upload.file_name, problem=describe_problem(request, error))
            finally:
                if job is not None:
                    running.discard(job)
                    engine.pool.drop(job)

    with noticing_leave(request, leave):
        return await asyncio.gather(*map(run, uploads))


@lru_cache(maxsize=256)
def _choose(query: SynthesizeQuery, max_people: int) -> SynthesisOptions:
    return SynthesisOptions(eye=query.eye, person=query.person, input=query.input, max_people=max_people)


def _choose_form(request: Request, query: SynthesizeQuery) -> str:
    """The media type of the answer: an image of one face, or JSON, which alone holds several."""
    if query.person == "all":
        return _accepted(request, (_JSON,), hint=" for person=all: an image holds one face")
    return _accepted(request, _OFFERS[query.format])


def _accepted(request: Request, offers: Sequence[str], hint: str = "") -> str:
    accept = ",".join(request.headers.getlist("accept"))
    chosen = negotiate(accept, offers)
    if chosen is None:
        raise NotAcceptable(f"Accept is '{accept[:80]}'; the answer can be {' or '.join(offers)}{hint}.")
    return chosen


def _format_of(media_type: str) -> FaceFormat:
    return next(each for each in _FORMATS if media_type == f"image/{each}")
