"""Traces of a real service, sent by OTLP over HTTP to a receiver that reads OpenTelemetry's protobuf."""

import gzip
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.http.app import create_app
from service.observability import tracing
from service.settings import Settings
from tests.fakes import astronaut, encoded, tiny_model
from tests.running import ROOT, find_free_port, running_service

PNG = {"content-type": "image/png"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = PNG | {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
STAGES = {"queue", "decode", "find", "crop", "infer", "encode"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Span]]:
    """The spans that services sent which are started meanwhile."""
    spans: list[Span] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        try:
            yield spans
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def traced_service(folder: Path, **settings: Any) -> Iterator[tuple[str, Path]]:
    """A service that traces, its address and its log; when it is left it has sent what it had."""
    settings = {"model": tiny_model(folder / "tiny.onnx"), "log_format": "json"} | settings
    with running_service(folder, tracing=True, **settings) as service:
        yield service.address, service.log
        service.process.terminate()
        assert service.process.wait(20) == 0


def facts(span: Span) -> dict[str, str | int]:
    """The span's attributes."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@pytest.mark.slow
@pytest.mark.parametrize("num_readers", [0, 1])
def test_a_request_is_a_span_in_its_callers_trace_and_its_stages_are_spans_in_it(
    tmp_path: Path, collector: list[Span], num_readers: int
) -> None:
    with traced_service(tmp_path, num_readers=num_readers) as (address, log):
        answer = httpx.post(f"{address}/synthesize?input=photo", content=encoded(astronaut()), headers=TRACED)
        assert answer.status_code == 200
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (request,) = [span for span in collector if span.kind == Span.SPAN_KIND_SERVER]
    assert request.name == "POST /synthesize"
    assert request.trace_id.hex() == TRACE and request.parent_span_id.hex() == "00f067aa0ba902b7"
    told = facts(request)
    assert (told["http.route"], told["http.response.status_code"]) == ("/synthesize", 200)
    assert told["eye2face.request_id"] == answer.headers["x-request-id"]
    (line,) = [line for line in lines if line.get("path") == "/synthesize"]
    assert line["trace_id"] == TRACE and line["request_id"] == answer.headers["x-request-id"]
    stages = [span for span in collector if span is not request]
    assert {span.name for span in stages} == STAGES
    for span in stages:
        assert span.trace_id == request.trace_id and span.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
        assert not span.attributes  # never what is in the photo


@pytest.mark.slow
def test_each_photo_of_a_batch_has_its_stages(tmp_path: Path, collector: list[Span]) -> None:
    with traced_service(tmp_path) as (address, _):
        photo = ("image", ("a.png", encoded(astronaut()), "image/png"))
        files = [photo, photo, ("image", ("b.png", b"no picture", "image/png"))]
        assert httpx.post(f"{address}/synthesize/batch", files=files, timeout=30).status_code == 200
    (request,) = [span for span in collector if span.kind == Span.SPAN_KIND_SERVER]
    named = Counter(span.name for span in collector if span.parent_span_id == request.span_id)
    assert (named["queue"], named["find"], named["infer"]) == (3, 2, 2)
    assert not [value for value in facts(request).values() if "a.png" in str(value)]


@pytest.mark.slow
def test_probes_are_not_traced_and_refusals_are(tmp_path: Path, collector: list[Span]) -> None:
    with traced_service(tmp_path) as (address, _):
        for path in ("/livez", "/readyz", "/metrics"):
            assert httpx.get(f"{address}{path}").status_code == 200
        assert httpx.post(f"{address}/synthesize", content=b"no", headers=PNG).status_code == 415
        assert httpx.get(f"{address}/nowhere").status_code == 404
    told = [(facts(span).get("http.route"), facts(span)["http.response.status_code"]) for span in collector
            if span.kind == Span.SPAN_KIND_SERVER]  # fmt: skip
    assert sorted(told, key=lambda each: each[1]) == [(None, 404), ("/synthesize", 415)]


@pytest.mark.slow
def test_what_its_caller_does_not_sample_is_not_sent(tmp_path: Path, collector: list[Span]) -> None:
    unsampled = PNG | {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"}
    with traced_service(tmp_path) as (address, log):
        route = f"{address}/synthesize?input=eye"
        assert httpx.post(route, content=encoded(astronaut()), headers=unsampled).status_code == 200
    assert f'"trace_id": "{TRACE}"' in log.read_text()
    assert not collector


@pytest.mark.slow
def test_a_collector_that_is_away_holds_up_neither_answers_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{find_free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # seconds that a stop waits for it, too
    with traced_service(tmp_path) as (address, _):
        begin = time.monotonic()
        for _ in range(3):
            route = f"{address}/synthesize?input=eye"
            assert httpx.post(route, content=encoded(astronaut()), headers=PNG).status_code == 200
        assert time.monotonic() - begin < 5
        begin = time.monotonic()
    assert time.monotonic() - begin < 5


@pytest.mark.slow
def test_it_says_so_if_nobody_told_where_traces_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with traced_service(tmp_path) as (address, log):
        assert httpx.get(f"{address}/readyz").status_code == 200
        assert "no traces are exported: set OTEL_EXPORTER_OTLP_ENDPOINT" in log.read_text()


INSTRUMENTED = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.testclient import TestClient
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
from service.http.app import create_app
from service.settings import Settings
with TestClient(create_app(Settings(tracing=True, model=sys.argv[1]))) as client:
    client.post("/synthesize", content=b"no", headers={"content-type": "image/png"})
"""


@pytest.mark.slow
def test_what_was_set_up_before_is_used_and_sends_each_span_once(
    tmp_path: Path, collector: list[Span]
) -> None:
    command = [sys.executable, "-c", INSTRUMENTED, str(tiny_model(tmp_path / "tiny.onnx"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "no traces are exported" not in done.stderr
    assert sorted(span.name for span in collector) == ["POST /synthesize", "queue"]


WITHOUT = """
import sys
sys.modules["opentelemetry.{missing}"] = None  # as if it were not installed
from service.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["sdk", "exporter"])
def test_without_its_packages_the_service_does_not_start_and_says_why(missing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing), "serve"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={"EYE2FACE_TRACING": "true"},
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        "pip install '.[otel]' in the checkout, or unset it" in done.stderr and "Traceback" not in done.stderr
    )


def test_an_application_without_its_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_PACKAGES", ("opentelemetry.none_such",))
    with pytest.raises(tracing.TracingUnavailable, match=r"'\.\[otel\]'"):
        create_app(Settings(tracing=True))
    create_app(Settings())


def test_without_tracing_nothing_follows_a_photo() -> None:
    assert tracing.stage_spans() is None
    assert tracing.tag_request_span("abc") is None
