"""Spans, by OpenTelemetry's API alone: without an SDK in the process they cost next to nothing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace

from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets.observability.telemetry.redaction import redact

_tracer = trace.get_tracer(SCOPE)


@contextmanager
def span(name: str, **attributes: str | float | bool | None) -> Generator[trace.Span]:
    """A span around the body; an exception marks it as failed, without its secrets, and goes on.

    Attributes that are None are left out.
    """
    known = {key: value for key, value in attributes.items() if value is not None}
    with _tracer.start_as_current_span(
        name, attributes=known, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            message = redact(str(error))
            current.add_event("exception", {"exception.type": type(error).__qualname__, "exception.message": message})
            current.set_status(trace.StatusCode.ERROR, message)
            raise


def trace_id() -> str | None:
    """Of the current span, as 32 hex digits; None outside a recorded one."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
