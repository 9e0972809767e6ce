"""This service without decoding or model: every photo is answered with the same stored face.

What is left is what HTTP costs: reading the request, keys and limits, the way to a worker and back, the
answer, the metrics. BENCH_ROUTE=empty: a bare route of Starlette that reads the body and answers the same.
"""

import os
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FACE = Path(os.environ["BENCH_FACE"]).read_bytes()
PORT = int(os.environ["BENCH_PORT"])


def serve_empty() -> None:
    """A minimal Starlette application that reads the photo and answers."""

    async def synthesize(request: Request) -> Response:
        await request.body()
        return Response(FACE, media_type="image/png")

    app = Starlette(routes=[Route("/synthesize", synthesize, methods=["POST"])])
    uvicorn.run(app, port=PORT, log_level="warning", access_log=False)


def serve_hollow() -> None:
    """The whole service, without images and model."""
    from service.http.server import run_server
    from service.pipeline import Pipeline, Synthesis
    from service.provenance.marking import Marker
    from service.settings import Settings

    nothing = Synthesis([None], [], "photo", 0, {})

    Pipeline.read = lambda _, photos: photos  # type: ignore[assignment,method-assign]
    Pipeline.draw = lambda _, photos: photos  # type: ignore[assignment,method-assign]
    Pipeline.finish = lambda *_: nothing  # type: ignore[method-assign]
    Marker.encode = lambda *_, **__: FACE  # type: ignore[method-assign]
    run_server(Settings(port=PORT))


serve_empty() if os.environ["BENCH_ROUTE"] == "empty" else serve_hollow()
