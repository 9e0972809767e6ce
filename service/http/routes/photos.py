"""`POST /synthesize`, its batch and `/eyes`: through admission, body and worker pool to the response."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.access.admission import AccessControl
from service.engine.engine import Engine
from service.engine.model_reload import LoadedModel
from service.engine.worker_pool import Work
from service.errors import NotReady
from service.http import openapi
from service.http.problems import STOPPED, problem_of
from service.http.request_body import (
    BodyReservation,
    UploadedPhoto,
    check_photo_size,
    read_photo,
    read_photos,
)
from service.http.request_params import (
    FACE_FORMATS,
    JSON,
    EyesQuery,
    FaceQuery,
    SynthesizeQuery,
    choose_face_type,
    choose_media_type,
    read_deadline_ms,
    read_query,
)
from service.http.responses import (
    BatchResult,
    batch_json,
    batch_zip,
    eyes_answer,
    face_files,
    synthesis_answer,
)
from service.http.schemas import BatchAnswer, EyesAnswer
from service.observability.stage_timer import StageTimer
from service.pipeline import DRAW_OVERLAY, FIND_EYES, DrawnFaces, PhotoCrops, PhotoRequest, Synthesis
from service.selection import SynthesisOptions
from service.settings import Settings
from service.system.host import count_cores
from service.vision.images import encode

T = TypeVar("T")
Upload = TypeVar("Upload")
_GUESSES_PER_PHOTO: Final = 4
"""Guesses that take about as long as a photo of 1080p without further ones."""

GRACE_S: Final = 0.1
"""How long work may take before anybody watches for a disconnect: a task costs more than a timer, and most
work is done by then."""


class AdmittedRoute(APIRoute):
    """A route that checks API key, limits and load before it reads the body.

    It calls its endpoint with the request alone: FastAPI's dependency injection costs 33 µs of CPU a request,
    a quarter of all that HTTP costs (`python -m bench.http_cost`). FastAPI still describes it in OpenAPI.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admits the caller, then sends the endpoint's response."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # 405
            return
        request = Request(scope, receive, send)
        with self.admit(request), closing(BodyReservation(request.app.state.uploads)) as request.state.body:
            try:
                loaded_engine(request).pool.refuse_overload()
                response = await self.endpoint(request)
            except asyncio.CancelledError as error:
                raise NotReady(STOPPED) from error
            request.state.body.replace(len(response.body))
            await response(scope, receive, send)  # until its last byte has left

    def admit(self, request: Request) -> AbstractContextManager[None]:
        """Admits the caller within the context."""
        access: AccessControl = request.app.state.access
        return nullcontext() if access.is_open else access.photos.admit(request)


photo_routes = APIRouter(tags=["photos"], route_class=AdmittedRoute)


def loaded_engine(request: Request) -> Engine:
    """The engine.

    Raises:
        NotReady: the service is starting or stopping.
    """
    engine: Engine | None = getattr(request.state, "engine", None)
    if engine is None:
        raise NotReady("The model is not loaded: the service is starting or stopping. Try again in a moment.")
    return engine


@photo_routes.post(
    "/synthesize",
    summary="Synthesize a face from one eye",
    response_class=Response,
    responses=openapi.SYNTHESIZE_RESPONSES,
    openapi_extra=openapi.describe_route(openapi.PHOTO_BODY, FaceQuery),
)
async def synthesize(request: Request) -> Response:
    """A synthetic face that could belong to the eye in the photo. It is a guess and identifies nobody."""
    engine, query = loaded_engine(request), read_query(request, FaceQuery)
    media_type = choose_face_type(request, query)
    deadline_ms = read_deadline_ms(request, engine.settings.deadline_ms)
    options = synthesis_options(query, engine.settings.max_people)
    if options.guesses > 1 and media_type != JSON and query.layout == "first":
        options = replace(options, guesses=1)  # nobody would see the others
    charge(request, count_photos(options.guesses) - 1)
    photo = await read_upload(request)
    request_id: str = request.state.request_id
    model = engine.model.current  # the same for this whole request, even if another is loaded meanwhile

    def write(synthesis: Synthesis, timer: StageTimer) -> bytes:
        if media_type == JSON:
            files = face_files(synthesis, query, model, timer)
            answer = synthesis_answer(synthesis, files, query, model, request_id, timer)
            return answer.model_dump_json().encode()
        guess = None if query.layout == "grid" else 0
        face, format = synthesis.faces[0], FACE_FORMATS[media_type]
        picture = model.marker.encode(face, format, label=query.label, guess=guess)
        timer.end("encode")
        return picture

    answer = await run_work(request, draw_faces(request, model, photo, options, write), deadline_ms)
    return Response(answer, 200, {"X-Device": model.synthesizer.device}, media_type)


@photo_routes.post(
    "/synthesize/batch",
    summary="Synthesize faces from several photos",
    response_model=BatchAnswer,
    responses=openapi.BATCH_RESPONSES,
    openapi_extra=openapi.describe_route(openapi.BATCH_BODY, SynthesizeQuery),
)
async def synthesize_batch(request: Request) -> Response:
    """The answer of `/synthesize` for each photo of a form; one that fails does not fail the others."""
    engine, query = loaded_engine(request), read_query(request, SynthesizeQuery)
    media_type = choose_media_type(request, (JSON, openapi.ZIP))
    deadline_ms = read_deadline_ms(request, engine.settings.deadline_ms)
    settings = engine.settings
    uploads = await read_photos(
        request,
        max_bytes=settings.max_batch_bytes,
        max_s=settings.upload_timeout_s,
        max_files=settings.max_batch_photos,
    )
    options = synthesis_options(query, settings.max_people)
    charge(request, len(uploads) * count_photos(options.guesses) - 1)
    request_id: str = request.state.request_id
    model = engine.model.current

    def write(upload: UploadedPhoto, synthesis: Synthesis, timer: StageTimer) -> BatchResult:
        files = face_files(synthesis, query, model, timer)
        if media_type == openapi.ZIP:
            return BatchResult(upload.index, upload.file_name, faces=files)
        answer = synthesis_answer(synthesis, files, query, model, request_id, timer)
        return BatchResult(upload.index, upload.file_name, answer)

    def work(upload: UploadedPhoto) -> Work[PhotoRequest, PhotoCrops, DrawnFaces, BatchResult]:
        check_photo_size(len(upload.data), settings.max_upload_bytes)
        return draw_faces(request, model, upload.data, options, partial(write, upload))

    def hold(result: BatchResult) -> None:
        request.state.body.grow(result.num_bytes)

    drawn = await run_each(request, work, uploads, deadline_ms, hold)
    results = [
        BatchResult(upload.index, upload.file_name, problem=problem_of(request, result))
        if isinstance(result, BaseException)
        else result
        for upload, result in zip(uploads, drawn, strict=True)
    ]
    join = partial(batch_zip, format=query.format or "png") if media_type == openapi.ZIP else batch_json
    body = await asyncio.to_thread(join, results, request_id)
    return Response(body, 200, {"X-Device": model.synthesizer.device}, media_type)


@photo_routes.post(
    "/eyes",
    summary="Detect eyes",
    response_model=EyesAnswer,
    responses=openapi.EYES_RESPONSES,
    openapi_extra=openapi.describe_route(openapi.PHOTO_BODY, EyesQuery),
)
async def eyes(request: Request) -> Response:
    """Every detected eye, the largest person first."""
    engine, query = loaded_engine(request), read_query(request, EyesQuery)
    media_type = choose_media_type(request, ("image/png" if query.overlay else JSON,))
    deadline_ms = read_deadline_ms(request, engine.settings.deadline_ms)
    photo = await read_upload(request)
    request_id: str = request.state.request_id
    read = engine.model.current.pipeline.reader

    def find(timer: StageTimer) -> bytes:
        if query.overlay:
            return encode(read(photo, DRAW_OVERLAY, timer), "png")
        found = read(photo, FIND_EYES, timer)
        return eyes_answer(found, request_id, all=query.all).model_dump_json().encode()

    body = await run_work(request, Work.of(find), deadline_ms)
    return Response(body, media_type=media_type)


async def read_upload(request: Request) -> bytes:
    """The photo in the body; raises what `read_photo` does."""
    settings: Settings = request.app.state.settings
    return await read_photo(request, max_bytes=settings.max_upload_bytes, max_s=settings.upload_timeout_s)


def draw_faces(
    request: Request,
    model: LoadedModel,
    photo: bytes,
    options: SynthesisOptions,
    write: Callable[[Synthesis, StageTimer], T],
) -> Work[PhotoRequest, PhotoCrops, DrawnFaces, T]:
    """The work of drawing a photo's faces, whose result is what `write` makes of them."""
    pipeline, loop = model.pipeline, asyncio.get_running_loop()

    def finish(drawn: DrawnFaces, timer: StageTimer) -> T:
        synthesis = pipeline.finish(drawn, timer)
        if options.guesses > 1 and len(synthesis.faces) > 1:
            # Those of people beyond the first: who is in a photo is known when it is drawn.
            num_more = count_photos(options.guesses * len(synthesis.faces)) - count_photos(options.guesses)
            loop.call_soon_threadsafe(partial(charge, request, num_more, are_done=True))
        return write(synthesis, timer)

    return Work(PhotoRequest(photo, options), pipeline.read, pipeline.draw, finish)


async def run_work(request: Request, work: Work[Any, Any, Any, T], max_ms: float) -> T:
    """The result of a worker, within `max_ms`; it is stopped if the caller disconnects."""
    with cancel_on_disconnect(request):
        return await _run(loaded_engine(request), work, max_ms)


async def _run(engine: Engine, work: Work[Any, Any, Any, T], max_ms: float) -> T:
    """The result of a worker; canceled, it stops the worker."""
    item = engine.pool.submit(work, max_ms=max_ms)
    try:
        return await item.future
    except asyncio.CancelledError:
        engine.pool.drop(item)
        raise


async def run_each(
    request: Request,
    work: Callable[[Upload], Work[Any, Any, Any, T]],
    uploads: Sequence[Upload],
    max_ms: float,
    hold: Callable[[T], object],
) -> list[T | BaseException]:
    """The result or error of each photo, at most one a core at once; all share one deadline.

    `hold` gets each result while the others are awaited, and may raise what becomes its error.
    """
    end = time.monotonic() + max_ms / 1000
    engine = loaded_engine(request)
    slots = asyncio.Semaphore(engine.settings.num_threads or count_cores())

    async def run(upload: Upload) -> T:
        async with slots:
            result = await _run(engine, work(upload), max(1.0, (end - time.monotonic()) * 1000))
            hold(result)
            return result

    with cancel_on_disconnect(request):
        return await asyncio.gather(*map(run, uploads), return_exceptions=True)


@contextmanager
def cancel_on_disconnect(request: Request) -> Iterator[None]:
    """Cancels what the current task awaits inside if the caller disconnects; the body must have been read.

    Raises:
        ClientDisconnect: the caller did.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    watchers: list[asyncio.Task[None]] = []
    disconnected = False

    async def watch() -> None:
        nonlocal disconnected
        while (await request.receive())["type"] != "http.disconnect":
            pass
        disconnected = True
        task.cancel()

    timer = loop.call_later(GRACE_S, lambda: watchers.append(loop.create_task(watch())))
    try:
        yield
    except asyncio.CancelledError:
        if not disconnected:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


def charge(request: Request, num_photos: int, *, are_done: bool = False) -> None:
    """Charges a caller for photos beyond the one that it was admitted for.

    Raises:
        RateLimited: they exceed its rate, and are not done yet.
    """
    access: AccessControl = request.app.state.access
    if not access.is_open:
        access.photos.rate.charge(request.state.caller, num_photos, are_done=are_done)


def count_photos(num_guesses: int) -> int:
    """The photos that count as much as these guesses of an eye."""
    return math.ceil(num_guesses / _GUESSES_PER_PHOTO)


def synthesis_options(query: SynthesizeQuery, max_people: int) -> SynthesisOptions:
    """What the query asks of each photo."""
    return SynthesisOptions(query.eye, query.person, query.input, max_people, query.guesses, query.seed)
