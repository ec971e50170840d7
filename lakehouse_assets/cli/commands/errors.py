"""Errors of the command line: one line on stderr and an exit status."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Any, NoReturn

from typer.core import TyperGroup

from lakehouse_assets.errors import InputError, LakehouseError

OK, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class ErrorReportingGroup(TyperGroup):
    """Reports every error as one line on stderr and an exit status.

    2: the input is not usable. 1: the input is usable, but the command failed. A traceback is shown only with
    ``debug``.
    """

    debug = False

    def main(self, *args: Any, **options: Any) -> NoReturn:
        if threading.current_thread() is threading.main_thread():
            # As an exception, so that stores and temporary folders are cleaned up.
            signal.signal(signal.SIGTERM, _terminate)
        try:
            status = super().main(*args, **{**options, "standalone_mode": False})
        except Exception as error:  # noqa: BLE001 - the last resort of a command line
            status = self._report(error)
        if status == INTERRUPTED:
            _print_error("Interrupted.")
        sys.exit(status if isinstance(status, int) else OK)

    def _report(self, error: Exception) -> int:
        if self.debug:
            traceback.print_exception(error)
        if isinstance(error, LakehouseError):
            _print_error(str(error))
            return WRONG_INPUT if isinstance(error, InputError) else FAILED
        usage = getattr(error, "format_message", None)
        if usage is not None:
            # Without arguments typer has already printed the help, and its message is empty.
            if message := usage().strip():
                command = getattr(getattr(error, "ctx", None), "command_path", "lakehouse")
                _print_error(f"{message.rstrip('.')}. See: {command} --help")
            return WRONG_INPUT
        first_line = (str(error).splitlines() or [""])[0]
        _print_error(
            f"Unexpected {type(error).__name__}: {first_line} "
            "(set LAKEHOUSE_DEBUG=1 to see the traceback; please report this)"
        )
        return FAILED


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _print_error(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - a command line prints
