"""The routes that tell of the service itself: its policy of use, its health, its models and its metrics."""

import asyncio
import time
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.access.admission import BearerKey, HeaderKey, authenticate, require_key
from service.errors import NotFound
from service.http import openapi
from service.http.responses import models_answer
from service.http.routes.photos import loaded_engine
from service.http.schemas import Health, ModelsAnswer, PolicyAnswer, Readiness
from service.observability.metrics import Metrics
from service.settings import Settings

PURPOSE: Final = (
    "Draws a synthetic face from one eye in a photo, for research, art and teaching, and as a placeholder."
)

REFUSED_USES: Final = [
    "Finding, recognizing or identifying people.",
    "Deciding anything about anybody, or inferring origin, age, sex, health or character.",
    "Showing what somebody looks like without a mask or a veil.",
    "Passing a face off as a photograph or as a proof of identity.",
    "Removing the marks of a face.",
]

UNMASKING: Final = (
    "Nobody can be unmasked here. What the eye does not show is filled in with what was common in the "
    "training photos: the face is a guess. In our measurements a tenth of all other people look more like it "
    "than the person does."
)

MARKING: Final = (
    "Faces carry metadata that say they are AI-generated, and unless EYE2FACE_MARKING=off an invisible "
    "watermark. POST /verify tells of any picture which marks it bears."
)

policy_routes = APIRouter(tags=["policy"])
health_routes = APIRouter(tags=["health"])
model_routes = APIRouter(tags=["models"], dependencies=[Depends(require_key)])


@policy_routes.get("/policy", summary="Policy of use")
async def show_policy(request: Request) -> PolicyAnswer:
    """What the service is for, what it must not be used for, and who answers for it; needs no key."""
    settings: Settings = request.app.state.settings
    return PolicyAnswer(
        purpose=PURPOSE,
        refused_uses=REFUSED_USES,
        unmasking=UNMASKING,
        marking=MARKING,
        operator_name=settings.operator_name,
        operator_contact=settings.operator_contact,
    )


@health_routes.get("/livez", summary="Liveness probe")
async def livez() -> Health:
    """Answers 200 while the process runs."""
    return Health()


@health_routes.get("/readyz", summary="Readiness probe", responses=openapi.READY_RESPONSES)
async def readyz(request: Request) -> Readiness:
    """Answers 200 if photos can be processed, with the device and model in use; never waits for a photo."""
    engine = loaded_engine(request)
    engine.refuse_unready()
    state, last = engine.pool.state(), engine.synthesizer.last_run
    return Readiness(
        device=engine.synthesizer.device,
        model=engine.synthesizer.info.name,
        marking=engine.settings.marking,
        signed=engine.model.current.marker.is_signing,
        num_workers=state.num_workers,
        num_busy=state.num_busy,
        num_queued=state.num_queued,
        last_inference_age_s=time.monotonic() - last.ended_at,
        last_inference_ms=last.ms,
    )


@model_routes.get("/models", summary="List models", responses=openapi.MODELS_RESPONSES)
async def models(request: Request) -> ModelsAnswer:
    """The shipped and mounted models: training data, license class, and which one is in use."""
    live, catalog = loaded_engine(request).model, request.app.state.catalog
    entries = await asyncio.to_thread(catalog.list, live.current.path)
    return models_answer(entries, live, request.state.request_id)


@health_routes.get(
    "/metrics", summary="Prometheus metrics", response_class=Response, responses=openapi.METRICS_RESPONSES
)
async def metrics(request: Request, bearer: BearerKey, key: HeaderKey) -> Response:
    """Metrics in Prometheus' text format; `EYE2FACE_METRICS` sets who may read them."""
    settings: Settings = request.app.state.settings
    if settings.metrics == "off":
        raise NotFound("Metrics are off: EYE2FACE_METRICS=off.")
    if settings.metrics == "key":
        authenticate(request)
    numbers: Metrics = request.app.state.metrics
    return Response(numbers.write(), media_type=CONTENT_TYPE_LATEST)
