"""The routes: how a request reaches the pipeline and leaves it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect

from service.access.admission import check_key, require_key
from service.engine.engine import Engine
from service.errors import NotAcceptable, NotFound, NotReady
from service.http.deadlines import noticing_leave, read_deadline_ms
from service.http.direct import DirectRoute
from service.http.negotiation import negotiate
from service.http.openapi import (
    BATCH_RESPONSES,
    EYES_RESPONSES,
    METRICS_RESPONSES,
    MODELS_RESPONSES,
    READY_RESPONSES,
    SYNTHESIZE_RESPONSES,
    ZIP,
    describe_batch_route,
    describe_photo_route,
)
from service.http.problems import describe_problem
from service.http.query_params import EyesQuery, SynthesizeQuery, read_query
from service.http.request_body import Upload, read_picture, read_pictures, refuse_size
from service.http.responses import (
    Outcome,
    answer_eyes,
    answer_faces,
    answer_models,
    join_json,
    join_zip,
)
from service.http.schemas import BatchAnswer, EyesAnswer, Health, ModelsAnswer, Readiness
from service.observability.metrics import MEDIA_TYPE, Metrics
from service.observability.stage_timer import StageTimer
from service.pipeline import SynthesisOptions
from service.provenance import encode_synthetic
from service.runtime.coalescing import Steps
from service.runtime.host import count_cores
from service.runtime.worker_pool import WorkItem
from service.settings import Settings
from service.vision.images import FaceFormat, encode

T = TypeVar("T")
_JSON = "application/json"
_FORMATS: tuple[FaceFormat, ...] = ("png", "jpeg", "webp")
_OFFERS: Final[dict[FaceFormat | None, tuple[str, ...]]] = {
    None: (*(f"image/{each}" for each in _FORMATS), _JSON),
    **{each: (f"image/{each}", _JSON) for each in _FORMATS},
}
"""The media types of an answer, by the format that was asked for."""


health = APIRouter(tags=["health"])
catalogue = APIRouter(tags=["models"], dependencies=[Depends(require_key)])
work = APIRouter(tags=["photos"], route_class=DirectRoute, dependencies=[Depends(require_key)])


def _find_engine(request: Request) -> Engine:
    engine: Engine | None = getattr(request.state, "engine", None)
    if engine is None:
        raise NotReady("The model is not loaded: the service is starting or stopping. Try again in a moment.")
    return engine


@health.get("/livez", summary="Does the process answer?")
async def livez() -> Health:
    """Whether the process answers at all."""
    return Health()


@health.get("/readyz", summary="Can photos be sent?", responses=READY_RESPONSES)
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


@catalogue.get("/models", summary="Which models are there?", responses=MODELS_RESPONSES)
async def models(request: Request) -> ModelsAnswer:
    """The shipped and mounted models, what they learned from, how they may be used, which one answers."""
    live, catalogue = _find_engine(request).model, request.app.state.catalogue
    entries = await asyncio.to_thread(catalogue.list, live.current.path)
    return answer_models(entries, live, request.state.request_id)


@health.get(
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


@work.post(
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


@work.post(
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


@work.post(
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
