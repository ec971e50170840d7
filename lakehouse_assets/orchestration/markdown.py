"""Markdown tables in metadata. Cells hold other people's text: object keys, error messages, symbols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lakehouse_assets.errors import printable

_BLANK = "␣"
_BACKSLASHES_BEFORE_BAR = re.compile(r"\\+(?=\||$)")


class Cell(str):
    """Markdown that is safe as a table's cell. Any other value is escaped as text."""

    __slots__ = ()


def text(value: object) -> Cell:
    """A value as plain text on one line; None is empty."""
    shown = "" if value is None else " ".join(str(value).split())
    return Cell(printable(shown).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'"))


def code(value: object) -> Cell:
    """A value in a fixed-width font, such as an object key. Blanks at its ends are shown as such.

    A bar needs a backslash inside code, too; backslashes before it are doubled, since one would escape the other.
    """
    shown = printable(re.sub(r"[\r\n\t]+", " ", str(value)).replace("`", "'"))
    inner = shown.strip(" ")
    if not inner:
        return Cell("")
    start = len(shown) - len(shown.lstrip(" "))
    shown = _BLANK * start + inner + _BLANK * (len(shown) - start - len(inner))
    shown = _BACKSLASHES_BEFORE_BAR.sub(lambda found: found[0] * 2, shown)
    return Cell("`" + shown.replace("|", "\\|") + "`")


def lines(*values: object) -> Cell:
    """Values as text, one below the other."""
    return Cell("<br>".join(text(value) for value in values))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    limit: int | None = None,
    total: int | None = None,
    rest: str = "",
    empty: str = "None.",
) -> str:
    """A Markdown table of at most ``limit`` rows; ``empty`` where there are none.

    Rows left out are counted below it, of ``total`` where ``rows`` are not all; ``rest`` says where to see them.
    """
    shown = list(rows)
    total = len(shown) if total is None else total
    shown = shown[:limit]
    if not shown:
        return empty
    written = [_row(columns), "|---" * len(columns) + "|", *map(_row, shown)]
    if total > len(shown):
        written += ["", f"and {total - len(shown):,} more{rest}"]
    return "\n".join(written)


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(cell if isinstance(cell, Cell) else text(cell) for cell in cells)} |"
