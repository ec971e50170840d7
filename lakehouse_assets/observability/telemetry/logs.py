"""Log output of the package, without secrets."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets.observability.telemetry.redaction import redact


class Redacting(logging.Filter):
    """Removes secrets from a record's message and exception.

    It is a filter for handlers, since a logger's own filters do not see the records of its children.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            # Another handler would format the exception again, with its secrets.
            record.exc_info = None
        return True


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that configure_logs adds."""


def configure_logs(stream: TextIO | None = None) -> logging.Logger:
    """Log the package's records from INFO on to ``stream`` (default: stderr), without secrets.

    A second call replaces the handler of the first.
    """
    logger = logging.getLogger(SCOPE)
    logger.setLevel(logging.INFO)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
    handler = _Handler(stream or sys.stderr)
    handler.addFilter(Redacting())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger
