"""The HTTP service: its start and stop, its routes, and how a request reaches the pipeline and leaves it.

Pictures are worked on in threads of their own, as many as there are cores, so that health and
documentation never wait for them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypedDict, TypeVar

import cv2
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from service import __version__, pages
from service.accept import negotiate
from service.admission import CORS, Gate, admit, check_key
from service.answers import EyesAnswer, Health, ModelsAnswer, Stamps, answer_eyes, answer_faces, answer_models
from service.batch import ZIP, BatchAnswer, Outcome, join_json, join_zip
from service.bodies import Upload, read_picture, read_pictures, refuse_size
from service.catalogue import Catalogue
from service.cores import count_cores
from service.errors import NotAcceptable, NotReady
from service.images import FaceFormat, encode
from service.live import LiveModel, keep_live
from service.marking import finish
from service.openapi import (
    BATCH_BODY,
    BATCH_RESPONSES,
    EYES_RESPONSES,
    MODELS_RESPONSES,
    PHOTO_BODY,
    READY_RESPONSES,
    SYNTHESIZE_RESPONSES,
    describe,
)
from service.pipeline import Choice
from service.problems import HANDLED, answer_problem, describe_problem
from service.queries import EyesQuery, SynthesizeQuery, refuse_repeats
from service.settings import Settings

T = TypeVar("T")
_JSON = "application/json"
_FORMATS: tuple[FaceFormat, ...] = ("png", "jpeg", "webp")


@dataclass(frozen=True, slots=True)
class _Engine:
    """The model and the threads that work with it; lives from start to stop."""

    live: LiveModel
    threads: ThreadPoolExecutor

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)


class _State(TypedDict):
    engine: _Engine


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application; the model is loaded when it starts.

    Raises:
        ValueError: it would listen beyond loopback with neither keys nor leave to do so.
        BadKeys: the file of keys cannot be used.
    """
    settings.refuse_exposure()
    app = FastAPI(
        title="eye2face",
        version=__version__,
        lifespan=_live,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.catalogue = Catalogue(settings.mounted)
    app.state.gate = Gate.open(settings)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **CORS)
    app.add_middleware(Stamps)
    for error in HANDLED:
        app.add_exception_handler(error, answer_problem)
    app.include_router(_work)
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
    settings: Settings = app.state.settings
    cv2.setNumThreads(1)  # the cores belong to our own threads, one photo each
    with ThreadPoolExecutor(settings.num_threads or count_cores(), "eye2face") as threads:
        async with keep_live(settings) as live:
            yield {"engine": _Engine(live, threads)}


async def _find_engine(request: Request) -> _Engine:
    engine: _Engine | None = getattr(request.state, "engine", None)
    if engine is None:
        raise NotReady("The model is not loaded: the service is starting or stopping. Try again in a moment.")
    return engine


_Ready = Annotated[_Engine, Depends(_find_engine)]
_health = APIRouter(tags=["health"])
_catalogue = APIRouter(tags=["models"], dependencies=[Depends(check_key)])
_work = APIRouter(tags=["photos"], dependencies=[Depends(admit), Depends(refuse_repeats)])


@_health.get("/livez", summary="Does the process answer?", response_model_exclude_none=True)
async def livez() -> Health:
    """Whether the process answers at all."""
    return Health(status="alive")


@_health.get("/readyz", summary="Can photos be sent?", responses=READY_RESPONSES)
async def readyz(engine: _Ready) -> Health:
    """Whether photos can be sent, on which device and to which model they go; never waits for one."""
    synthesizer = engine.live.current.synthesizer
    return Health(status="ready", device=synthesizer.device, model=synthesizer.info.name)


@_catalogue.get("/models", summary="Which models are there?", responses=MODELS_RESPONSES)
async def models(request: Request, engine: _Ready) -> ModelsAnswer:
    """The shipped and mounted models, what they learned from, how they may be used, which one answers."""
    live, catalogue = engine.live, request.app.state.catalogue
    entries = await asyncio.to_thread(catalogue.list, live.current.path)
    return answer_models(entries, live, request.state.request_id)


@_work.post(
    "/synthesize",
    summary="One eye in, one face out",
    response_class=Response,
    responses=SYNTHESIZE_RESPONSES,
    openapi_extra=PHOTO_BODY,
)
async def synthesize(
    request: Request, query: Annotated[SynthesizeQuery, Query()], engine: _Ready
) -> Response:
    """A face that could belong to the eye in the photo: a guess, never an identification."""
    media_type = _choose_form(request, query)
    photo = await _read(request)
    choice = _choose(request, query)
    request_id: str = request.state.request_id
    model = engine.live.current  # to the end of this request, whatever takes its place

    def draw() -> bytes:
        synthesis = model.pipeline.synthesize(photo, choice)
        if media_type == _JSON:
            return answer_faces(synthesis, query.format or "png", model.synthesizer, request_id)
        return finish(synthesis.faces[0], _format_of(media_type))

    return Response(await engine.run(draw), 200, {"X-Device": model.synthesizer.device}, media_type)


@_work.post(
    "/synthesize/batch",
    summary="Several photos, an answer each",
    response_model=BatchAnswer,
    responses=BATCH_RESPONSES,
    openapi_extra=BATCH_BODY,
)
async def synthesize_batch(
    request: Request, query: Annotated[SynthesizeQuery, Query()], engine: _Ready
) -> Response:
    """What `/synthesize` answers, for each photo of a form; one that fails does not fail the others."""
    media_type = _accepted(request, [_JSON, ZIP])
    settings: Settings = request.app.state.settings
    uploads = await read_pictures(
        request,
        max_bytes=settings.max_batch_bytes,
        max_s=settings.upload_timeout_s,
        max_files=settings.max_batch_photos,
    )
    request.app.state.gate.charge(request, len(uploads) - 1)
    choice, format = _choose(request, query), query.format or "png"
    request_id: str = request.state.request_id
    model = engine.live.current

    def draw(upload: Upload) -> Outcome:
        refuse_size(len(upload.data), settings.max_upload_bytes)
        synthesis = model.pipeline.synthesize(upload.data, choice)
        if media_type == ZIP:
            return Outcome(upload.file_name, faces=[finish(face, format) for face in synthesis.faces])
        return Outcome(upload.file_name, answer_faces(synthesis, format, model.synthesizer, request_id))

    async def try_to_draw(upload: Upload) -> Outcome:
        try:
            async with turns:
                return await engine.run(partial(draw, upload))
        except Exception as error:  # noqa: BLE001  # the other photos have their answers all the same
            return Outcome(upload.file_name, problem=describe_problem(request, error))

    turns = asyncio.Semaphore(settings.num_threads or count_cores())  # others want theirs in between
    outcomes = await asyncio.gather(*map(try_to_draw, uploads))
    join = partial(join_zip, format=format) if media_type == ZIP else join_json
    body = await asyncio.to_thread(join, outcomes, request_id=request_id)
    return Response(body, 200, {"X-Device": model.synthesizer.device}, media_type)


@_work.post(
    "/eyes",
    summary="What the finder sees",
    response_model=EyesAnswer,
    responses=EYES_RESPONSES,
    openapi_extra=PHOTO_BODY,
)
async def eyes(request: Request, query: Annotated[EyesQuery, Query()], engine: _Ready) -> Response:
    """Every eye that the finder sees, largest person first."""
    media_type = _accepted(request, ["image/png" if query.overlay else _JSON])
    photo = await _read(request)
    request_id: str = request.state.request_id
    pipeline = engine.live.current.pipeline

    def look() -> bytes:
        if query.overlay:
            return encode(pipeline.overlay(photo), "png")
        return answer_eyes(pipeline.find(photo), request_id, all=query.all)

    return Response(await engine.run(look), media_type=media_type)


async def _read(request: Request) -> bytes:
    settings: Settings = request.app.state.settings
    return await read_picture(request, max_bytes=settings.max_upload_bytes, max_s=settings.upload_timeout_s)


def _choose(request: Request, query: SynthesizeQuery) -> Choice:
    settings: Settings = request.app.state.settings
    return Choice(eye=query.eye, person=query.person, input=query.input, max_people=settings.max_people)


def _choose_form(request: Request, query: SynthesizeQuery) -> str:
    """The media type of the answer: an image of one face, or JSON, which alone holds several."""
    if query.person == "all":
        return _accepted(request, [_JSON], hint=" for person=all: an image holds one face")
    formats = [query.format] if query.format else _FORMATS
    return _accepted(request, [*(f"image/{each}" for each in formats), _JSON])


def _accepted(request: Request, offers: list[str], hint: str = "") -> str:
    accept = ",".join(request.headers.getlist("accept"))
    chosen = negotiate(accept, offers)
    if chosen is None:
        raise NotAcceptable(f"Accept is '{accept[:80]}'; the answer can be {' or '.join(offers)}{hint}.")
    return chosen


def _format_of(media_type: str) -> FaceFormat:
    return next(each for each in _FORMATS if media_type == f"image/{each}")
