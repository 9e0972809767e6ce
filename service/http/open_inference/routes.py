"""The routes of the Open Inference Protocol: health, metadata and inference of the one model in use."""

from collections.abc import Iterable, Sequence
from enum import Enum
from functools import partial
from itertools import chain
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from service import __version__
from service.access.admission import require_key
from service.engine.engine import Engine
from service.engine.model_reload import LoadedModel
from service.engine.worker_pool import Work
from service.errors import Eye2FaceError, InvalidParameter, NotFound
from service.http.open_inference import openapi
from service.http.open_inference.request import (
    INPUT,
    JSON_LENGTH,
    OUTPUTS,
    InferenceRequest,
    JsonParser,
    Output,
    read_binary,
)
from service.http.open_inference.response import encode_element, write_inference_response
from service.http.request_body import read_body
from service.http.request_params import JSON, read_deadline_ms
from service.http.responses import face_files, synthesis_answer
from service.http.routes.photos import (
    AdmittedRoute,
    charge,
    count_photos,
    draw_faces,
    loaded_engine,
    run_each,
    run_work,
    synthesis_options,
)
from service.http.schemas import Shape
from service.observability.stage_timer import StageTimer
from service.pipeline import Synthesis

_TAGS: Final[list[str | Enum]] = ["open inference protocol"]
_MODEL: Final = "/v2/models/{model}"
_VERSION: Final = _MODEL + "/versions/{version}"

health_routes = APIRouter(tags=_TAGS)
metadata_routes = APIRouter(tags=_TAGS, dependencies=[Depends(require_key)])
inference_routes = APIRouter(tags=_TAGS, route_class=AdmittedRoute)
other_routes = (health_routes, metadata_routes)


_INFERENCE: Final[dict[str, Any]] = {
    "summary": "Synthesize faces",
    "response_class": Response,
    "responses": openapi.INFER_RESPONSES,
    "openapi_extra": openapi.INFER_REQUEST,
}


class Live(Shape):
    """The process runs."""

    live: bool = True


class Ready(Shape):
    """Photos can be processed."""

    ready: bool = True


class ModelReady(Ready):
    """The model can be used."""

    name: str


class ServerMetadata(Shape):
    """The server and its extensions of the protocol."""

    name: str = "eye2face"
    version: str = __version__
    extensions: tuple[str, ...] = ("binary_tensor_data",)


class TensorMetadata(Shape):
    """A tensor of any number of elements."""

    name: str
    datatype: str = "BYTES"
    shape: tuple[int, ...] = (-1,)


class ModelMetadata(Shape):
    """The model, its inputs and its outputs."""

    name: str
    versions: tuple[str, ...]
    platform: str = "onnxruntime_onnx"
    inputs: tuple[TensorMetadata, ...] = (TensorMetadata(name=INPUT),)
    outputs: tuple[TensorMetadata, ...] = tuple(TensorMetadata(name=name) for name in OUTPUTS)


@health_routes.get("/v2/health/live", summary="Liveness probe")
async def live() -> Live:
    """Answers 200 while the process runs."""
    return Live()


@health_routes.get("/v2/health/ready", summary="Readiness probe", responses=openapi.READY_RESPONSES)
async def ready(request: Request) -> Ready:
    """Answers 200 if photos can be processed."""
    loaded_engine(request).refuse_unready()
    return Ready()


@metadata_routes.get("/v2", summary="Server metadata", responses=openapi.SERVER_RESPONSES)
async def server_metadata() -> ServerMetadata:
    """Name, version and extensions of the server."""
    return ServerMetadata()


@metadata_routes.get(_MODEL, summary="Model metadata", responses=openapi.MODEL_RESPONSES)
@metadata_routes.get(_VERSION, summary="Model metadata", responses=openapi.MODEL_RESPONSES)
async def model_metadata(request: Request) -> ModelMetadata:
    """Name, version, inputs and outputs of the model in use."""
    info = _find_model(request, loaded_engine(request)).synthesizer.info
    return ModelMetadata(name=info.name, versions=(info.version,))


@metadata_routes.get(f"{_MODEL}/ready", summary="Model readiness", responses=openapi.MODEL_RESPONSES)
@metadata_routes.get(f"{_VERSION}/ready", summary="Model readiness", responses=openapi.MODEL_RESPONSES)
async def model_ready(request: Request) -> ModelReady:
    """Answers 200 if the model can be used."""
    engine = loaded_engine(request)
    model = _find_model(request, engine)
    engine.refuse_unready()
    return ModelReady(name=model.synthesizer.info.name)


@inference_routes.post(f"{_MODEL}/infer", **_INFERENCE)
@inference_routes.post(f"{_VERSION}/infer", **_INFERENCE)
async def infer(request: Request) -> Response:
    """The synthetic faces of the photos in the input `image`, and the JSON answers of `/synthesize`."""
    engine = loaded_engine(request)
    model = _find_model(request, engine)
    if request.scope["query_string"]:
        raise InvalidParameter("The query is not read here; send its options in 'parameters'.")
    deadline_ms = read_deadline_ms(request, engine.settings.deadline_ms)
    asked = await _read(request, engine)
    if asked.timeout_ms is not None:
        deadline_ms = min(deadline_ms, asked.timeout_ms)
    options = synthesis_options(asked.query, engine.settings.max_people)
    charge(request, len(asked.photos) * count_photos(options.guesses) - 1)

    def work(photo: bytes) -> Work[Any, Any, Any, dict[Output, list[bytes]]]:
        write = partial(_write, model, asked, request.state.request_id)
        return draw_faces(request, model, photo, options, write)

    def hold(elements: dict[Output, list[bytes]]) -> None:
        request.state.body.grow(sum(map(len, chain(*elements.values()))))

    if len(asked.photos) == 1:  # tasks would cost more than all else here
        elements = await run_work(request, work(asked.photos[0]), deadline_ms)
    else:
        drawn = await run_each(request, work, asked.photos, deadline_ms, hold)
        elements = _join(asked.outputs, drawn)
    info = model.synthesizer.info
    head = {"model_name": info.name, "model_version": info.version}
    head |= {} if asked.id is None else {"id": asked.id}
    body, json_length = write_inference_response(head, asked.outputs, elements)
    headers = {"X-Device": model.synthesizer.device}
    if json_length is None:
        return Response(body, 200, headers, JSON)
    return Response(body, 200, headers | {JSON_LENGTH: str(json_length)}, openapi.BINARY)


def _join(
    outputs: Iterable[Output], drawn: Sequence[dict[Output, list[bytes]] | BaseException]
) -> dict[Output, list[bytes]]:
    """The elements of each output; raises the error of the first photo that has one."""
    elements: dict[Output, list[bytes]] = {name: [] for name in outputs}
    for number, each in enumerate(drawn):
        if isinstance(each, BaseException):
            if isinstance(each, Eye2FaceError):
                each.args = (f"Element {number}: {each}",)
            raise each
        for name, files in each.items():
            elements[name] += files
    return elements


def _find_model(request: Request, engine: Engine) -> LoadedModel:
    """The model in use, if the path names it."""
    model = engine.model.current
    info, asked = model.synthesizer.info, request.path_params
    if asked["model"] != info.name or asked.get("version", info.version) != info.version:
        raise NotFound(
            f"There is no model '{asked['model'][:80]}' of version '{asked.get('version', 'any')[:80]}'; "
            f"there is '{info.name}' of version '{info.version}'."
        )
    return model


async def _read(request: Request, engine: Engine) -> InferenceRequest:
    settings = engine.settings
    max_bytes, max_photos = settings.max_upload_bytes, settings.max_batch_photos
    json_length = request.headers.get(JSON_LENGTH)
    read = partial(read_body, request, max_bytes=max_bytes, max_s=settings.upload_timeout_s)
    if json_length is None:
        parser = JsonParser(max_photos=max_photos)
        await read(parser.feed)
        return parser.close()
    chunks: list[bytes] = []
    await read(chunks.append)
    body = b"".join(chunks)
    request.state.body.grow(len(body))  # the photos are copies
    return read_binary(body, json_length, max_photos=max_photos)


def _write(
    model: LoadedModel, asked: InferenceRequest, request_id: str, synthesis: Synthesis, timer: StageTimer
) -> dict[Output, list[bytes]]:
    """The elements of each output for one photo, as they are sent."""
    files = face_files(synthesis, asked.query, model, timer)
    contents: dict[Output, list[bytes]] = {"face": [*chain(*files)]}
    if "result" in asked.outputs:
        answer = synthesis_answer(synthesis, files, asked.query, model, request_id, timer)
        contents["result"] = [answer.model_dump_json().encode()]
    return {
        name: [encode_element(each, name, is_binary=is_binary) for each in contents[name]]
        for name, is_binary in asked.outputs.items()
    }
