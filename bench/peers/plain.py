"""FastAPI in its simplest form: everything in the handler, default settings."""

import os
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Response, UploadFile

from bench.workload import Workload

app = FastAPI()
workload = Workload("standin" if os.environ.get("BENCH_MODEL") == "standin" else "cpu", num_threads=0)


@app.post("/synthesize")
async def synthesize(image: Annotated[UploadFile, File()]) -> Response:
    """The face of one photo."""
    return Response(workload(await image.read()), media_type="image/png")


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="warning")
