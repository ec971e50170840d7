"""Spans, created with OpenTelemetry's API only: without the SDK they cost almost nothing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace

from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets.observability.telemetry.redaction import redact

_tracer = trace.get_tracer(SCOPE)


@contextmanager
def span(name: str, **attributes: str | float | bool | None) -> Generator[trace.Span]:
    """A span around the body. An exception marks it as failed, without secrets, and is raised again.

    Attributes that are None are left out.
    """
    given = {key: value for key, value in attributes.items() if value is not None}
    with _tracer.start_as_current_span(
        name, attributes=given, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            message = redact(str(error))
            current.add_event("exception", {"exception.type": type(error).__qualname__, "exception.message": message})
            current.set_status(trace.StatusCode.ERROR, message)
            raise


def trace_id() -> str | None:
    """The trace id of the current span, as 32 hex digits; None without a valid span."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
