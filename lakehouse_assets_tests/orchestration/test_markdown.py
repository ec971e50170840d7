"""Markdown tables: whatever a cell contains, its row keeps its number of cells."""

from __future__ import annotations

import re

import pytest

from lakehouse_assets.orchestration.markdown import code, lines, table, text

HOSTILE = [
    "a|b",
    "a\\|b",
    "a\\\\|b",
    "a\nb",
    "a\r\n|---|---|\n| c | d |",
    "`a`",
    "``",
    "a`|`b",
    " a ",
    "a\\",
    "a`\\",
    "\u202ea",
    "\x00",
    "",
    " ",
    "|",
    "||||",
]

# How GitHub's Markdown, which Dagster's UI follows, splits a row: a backslash and what it escapes are one unit.
_UNIT = re.compile(r"\\[\\|]|.", re.DOTALL)


def _bars(line: str) -> int:
    """Bars of a row that separate cells."""
    return sum(unit == "|" for unit in _UNIT.findall(line))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("cell", [text, code, lines, str])
def test_no_cell_can_break_its_row(hostile: str, cell: type[str]) -> None:
    rows = table(("one", "two"), [(cell(hostile), 1), (cell(hostile), cell(hostile))]).splitlines()
    assert len(rows) == 4
    assert [_bars(row) for row in rows] == [3, 3, 3, 3]
    assert "".join(rows).isprintable()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_code_has_a_backtick_at_each_end_and_no_other(hostile: str) -> None:
    shown = code(hostile)
    assert not shown or (shown[0] == shown[-1] == "`" and "`" not in shown[1:-1] and len(shown) > 2)


def test_a_column_name_is_escaped() -> None:
    assert table(("a|b",), [(1,)]).splitlines()[0] == "| a\\|b |"


def test_blanks_at_the_ends_of_a_key_are_visible() -> None:
    assert code(" a b ") == "`␣a b␣`"
    assert text(" a  b ") == "a b"


def test_lines_are_escaped_one_by_one() -> None:
    assert lines("a|b", "c\nd") == "a\\|b<br>c d"


def test_none_is_an_empty_cell() -> None:
    assert table(("a", "b"), [(None, 0)]).splitlines()[2] == "|  | 0 |"


def test_rows_beyond_the_limit_are_counted() -> None:
    rows = [(number,) for number in range(5)]
    assert table(("n",), rows, limit=2).splitlines()[2:] == ["| 0 |", "| 1 |", "", "and 3 more"]
    assert table(("n",), rows, limit=9, total=1_234, rest=": see the log.").endswith("\n\nand 1,229 more: see the log.")
    assert table(("n",), rows, limit=5).splitlines()[-1] == "| 4 |"


def test_a_table_without_rows_says_so() -> None:
    assert table(("n",), []) == "None."
    assert table(("n",), [], empty="Nothing was synced yet.") == "Nothing was synced yet."
