"""This service; with BENCH_MODEL=standin its model is the stand-in accelerator, all else is as shipped."""

import os

from bench.workload import StandIn
from service.engine import model_reload as live
from service.http.server import run_server
from service.settings import Settings

if os.environ.get("BENCH_MODEL") == "standin":
    live.Synthesizer = StandIn  # type: ignore[misc]
run_server(Settings(port=int(os.environ["BENCH_PORT"])))
