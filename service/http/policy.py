"""`GET /policy`: what the service is for, what it must not be used for, and who answers for it."""

from typing import Final

from fastapi import APIRouter, Request

from service.http.schemas import PolicyAnswer
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
