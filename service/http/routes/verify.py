"""`POST /verify`: which marks a picture bears. It has limits of its own, and by default needs no key."""

from contextlib import AbstractContextManager

from fastapi import APIRouter, Request, Response

from service.access.admission import AccessControl
from service.engine.worker_pool import Work
from service.http import openapi
from service.http.request_params import JSON, VerifyQuery, choose_media_type, read_deadline_ms, read_query
from service.http.responses import verify_answer
from service.http.routes.photos import AdmittedRoute, loaded_engine, read_upload, run_work
from service.http.schemas import VerifyAnswer
from service.observability.stage_timer import StageTimer
from service.pipeline import SHRINK
from service.provenance.verification import Verifier


class VerifyRoute(AdmittedRoute):
    """A route with the access and the limit of `/verify`."""

    def admit(self, request: Request) -> AbstractContextManager[None]:
        """Admits the caller within the context."""
        access: AccessControl = request.app.state.access
        return access.verification.admit(request)


verify_routes = APIRouter(tags=["photos"], route_class=VerifyRoute)


@verify_routes.post(
    "/verify",
    summary="Verify the marks of a picture",
    response_model=VerifyAnswer,
    responses=openapi.VERIFY_RESPONSES,
    openapi_extra=openapi.describe_route(openapi.PHOTO_BODY, VerifyQuery, openapi.OPTIONAL_KEY),
)
async def verify(request: Request) -> Response:
    """Whether the picture is a face of this service, by its signature, watermark and metadata."""
    engine = loaded_engine(request)
    access: AccessControl = request.app.state.access
    access.verifications.check("everybody")  # again when the upload is complete: a slow one must not count
    read_query(request, VerifyQuery)
    media_type = choose_media_type(request, (JSON,))
    deadline_ms = read_deadline_ms(request, engine.settings.deadline_ms)
    file = await read_upload(request)
    verifier: Verifier = request.app.state.verifier
    request_id: str = request.state.request_id
    read = engine.model.current.pipeline.reader

    def check(timer: StageTimer) -> bytes:
        found = verifier.verify(file, read(file, SHRINK, timer))
        return verify_answer(found, request_id).model_dump_json().encode()

    with access.verifications.enter("everybody"):
        body = await run_work(request, Work.of(check), deadline_ms)
    return Response(body, media_type=media_type)
