"""What a trace tells of a request beside FastAPI's own span of it: the stages of its photos, and its id.

Needs the extra `otel` and EYE2FACE_TRACING. Where traces go, and which of them, is told by OpenTelemetry's
own variables: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER and so on. No pixels, no names of files.
"""

import logging
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import INVALID_TRACE_ID, ProxyTracerProvider, format_trace_id, set_span_in_context

StageObserver = Callable[[str, float, float], None]
"""Is told of each stage: its name, how long it took, and how long ago it ended, in milliseconds."""

_NS_PER_MS: Final = 1_000_000
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_log = logging.getLogger(__name__)


def require_tracing_packages() -> None:
    """Returns if what traces need is installed.

    Raises:
        ValueError: it is not.
    """
    if not all(map(_is_installed, _NEEDED)):
        raise ValueError(
            "EYE2FACE_TRACING is set, but OpenTelemetry's SDK and its exporter are not installed: run "
            "pip install 'eye2face[otel]', or unset it."
        )


def is_configured() -> bool:
    """Whether it is settled where traces go, by FastAPI or before by `opentelemetry-instrument`."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def warn_if_not_exported() -> None:
    """Says so if nobody has told where traces go; the service works without them."""
    if not is_configured():
        _log.warning(
            "EYE2FACE_TRACING is set, but no traces are sent: OTEL_EXPORTER_OTLP_ENDPOINT does not tell "
            "where to, or what is said above is wrong with it"
        )


def stage_spans() -> StageObserver | None:
    """Makes a span of each stage within that of the running request; None: the request is not traced."""
    request = trace.get_current_span()
    if not request.is_recording():
        return None
    context, tracer = set_span_in_context(request), trace.get_tracer("eye2face")

    def follow(stage: str, spent_ms: float, ago_ms: float) -> None:
        end_ns = time.time_ns() - int(ago_ms * _NS_PER_MS)
        span = tracer.start_span(stage, context, start_time=end_ns - int(spent_ms * _NS_PER_MS))
        span.end(end_ns)

    return follow


def tag_request_span(request_id: str) -> str | None:
    """Puts the request's id into its span and returns the id of its trace; None: there is none."""
    span = trace.get_current_span()
    trace_id = span.get_span_context().trace_id
    if trace_id == INVALID_TRACE_ID:
        return None
    span.set_attribute("eye2face.request_id", request_id)
    return format_trace_id(trace_id)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
