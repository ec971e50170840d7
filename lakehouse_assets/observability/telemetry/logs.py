"""Log records for people and machines: without secrets, and with the trace they belong to."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from opentelemetry import trace

from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets.observability.telemetry.redaction import redact


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Redacting(logging.Filter):
    """Takes secrets out of a record's message and of its exception, and names its trace.

    A filter of handlers: a logger's own filters do not see the records of its children.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            # Others would format the exception anew, with what it says.
            record.exc_info = None
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
            record.span_id = trace.format_span_id(context.span_id)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time (UTC), level, logger, message, and trace_id, span_id, exception if any."""

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in ("trace_id", "span_id") if hasattr(record, name)},
        }
        if record.exc_text:
            content["exception"] = record.exc_text
        return json.dumps(content, ensure_ascii=False)


class _Handler(logging.StreamHandler[TextIO]):
    """The one that configure_logs sets up."""


def configure_logs(
    form: LogFormat = LogFormat.TEXT, level: int = logging.INFO, stream: TextIO | None = None
) -> logging.Logger:
    """Set up the package's logger: redaction always, and one handler on ``stream`` (default: stderr).

    Calling it again replaces what it set up before.
    """
    logger = logging.getLogger(SCOPE)
    logger.setLevel(level)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
    handler = _Handler(stream or sys.stderr)
    handler.addFilter(Redacting())
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger
