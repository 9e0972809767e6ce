"""OpenTelemetry traces: a span for each stage of a photo within FastAPI's span of the request.

Needs the extra `otel` and EYE2FACE_TRACING. OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER, ...) say where traces go and which are sampled. Spans hold no pixels and no file names.
"""

import logging
import time
from importlib import import_module
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import INVALID_TRACE_ID, ProxyTracerProvider, format_trace_id, set_span_in_context

from service.errors import Eye2FaceError
from service.observability.stage_timer import StageObserver

_NS_PER_MS: Final = 1_000_000
_PACKAGES: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_log = logging.getLogger(__name__)


class TracingUnavailable(Eye2FaceError):
    """EYE2FACE_TRACING is set without OpenTelemetry's packages; met at the start, never by a caller."""


def require_tracing_packages() -> None:
    """Checks that OpenTelemetry's SDK and exporter are installed.

    Raises:
        TracingUnavailable: they are not.
    """
    try:
        for package in _PACKAGES:
            import_module(package)
    except ModuleNotFoundError as error:
        raise TracingUnavailable(
            "EYE2FACE_TRACING is set, but OpenTelemetry's SDK and its exporter are not installed: run "
            "pip install '.[otel]' in the checkout, or unset it."
        ) from error


def is_configured() -> bool:
    """Whether a tracer provider is set, by FastAPI or before by `opentelemetry-instrument`."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def warn_if_not_exported() -> None:
    """Logs a warning if no exporter is configured; the service works without."""
    if not is_configured():
        _log.warning(
            "EYE2FACE_TRACING is set, but no traces are exported: set OTEL_EXPORTER_OTLP_ENDPOINT, or fix "
            "the error logged above"
        )


def stage_spans() -> StageObserver | None:
    """Records a child span of the current request's for each stage; None if the request is not sampled."""
    request = trace.get_current_span()
    if not request.is_recording():
        return None
    context, tracer = set_span_in_context(request), trace.get_tracer("eye2face")

    def record(stage: str, spent_ms: float, ago_ms: float) -> None:
        end_ns = time.time_ns() - int(ago_ms * _NS_PER_MS)
        span = tracer.start_span(stage, context, start_time=end_ns - int(spent_ms * _NS_PER_MS))
        span.end(end_ns)

    return record


def tag_request_span(request_id: str) -> str | None:
    """Adds the request id to the current span and returns its trace id; None without a trace."""
    span = trace.get_current_span()
    trace_id = span.get_span_context().trace_id
    if trace_id == INVALID_TRACE_ID:
        return None
    span.set_attribute("eye2face.request_id", request_id)
    return format_trace_id(trace_id)
