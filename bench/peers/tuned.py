"""FastAPI, tuned: a plain function, which runs in the thread pool, and one ONNX Runtime thread a call."""

import os
from typing import Annotated

import cv2
import uvicorn
from fastapi import Body, FastAPI, Response

from bench.workload import Workload

app = FastAPI()
cv2.setNumThreads(1)
workload = Workload("standin" if os.environ.get("BENCH_MODEL") == "standin" else "cpu")


@app.post("/synthesize")
def synthesize(photo: Annotated[bytes, Body(media_type="image/jpeg")]) -> Response:
    """The face of one photo."""
    return Response(workload(photo), media_type="image/png")


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False)
