"""Output of the commands: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

PIPED_WIDTH = 140
"""Width in columns where the output is not a terminal."""


def stdout() -> Console:
    """The console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for everything that is not a result."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # No highlighting: numbers and paths stay as they are.
    return Console(stderr=stderr, highlight=False, width=None if is_terminal else PIPED_WIDTH)


def print_json(document: Any) -> None:
    """Print the one document that is all of stdout, with keys in the given order."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(title: str, texts: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    """A table with left-aligned columns ``texts``, then right-aligned ``numbers``."""
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name in texts:
        shown.add_column(name, overflow="fold")
    for name in numbers:
        shown.add_column(name, justify="right", no_wrap=True)
    return shown


def size(count: int) -> str:
    """A human-readable size in powers of ten."""
    return decimal(count)
