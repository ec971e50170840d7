"""What the commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

PIPED_WIDTH = 140
"""Columns where the output is no terminal and nobody says how wide it is."""


def stdout() -> Console:
    """The console of results."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console of everything that is not a result."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # No highlighting: numbers and paths stay as they are.
    return Console(stderr=stderr, highlight=False, width=None if is_terminal else PIPED_WIDTH)


def print_json(document: Any) -> None:
    """The only thing on stdout: one document, keys in the order given."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(title: str, texts: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    """A table with left-aligned columns ``texts``, then right-aligned ``numbers``."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for name in texts:
        made.add_column(name, overflow="fold")
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def size(count: int) -> str:
    """Bytes for people, in powers of ten."""
    return decimal(count)
