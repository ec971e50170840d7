"""The outcome of a table build, per period."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl


class BuildState(StrEnum):
    """``written``: the period's rows were replaced. ``unchanged``: the table already has rows of the same content.
    ``empty``: the lake has no archive object of the period. ``blocked``: an object is quarantined or missing, and the
    matrix has ``on_bad_file: block``. ``failed``: an object could not be fetched, or the commit was lost.
    Empty, blocked and failed periods keep the rows that they had."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    EMPTY = "empty"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Problem:
    """An archive object whose rows are not in the table. ``usage`` is quarantined or missing; ``filled`` is true
    when the rows come from another object, as a rule the monthly one."""

    key: str
    symbol: str
    interval: str | None
    usage: str
    reason: str
    filled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodBuild:
    """One period: ``rows`` is the table's row count after the build; ``daily`` and ``monthly`` count the archive
    objects that the rows come from. ``content`` is the digest of these objects, None without any. ``reason``
    explains the state."""

    period: str
    state: BuildState
    rows: int = 0
    daily: int = 0
    monthly: int = 0
    problems: tuple[Problem, ...] = ()
    content: str | None = None
    reason: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the table has every row of the period that it should have."""
        return self.state in {BuildState.WRITTEN, BuildState.UNCHANGED}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """One build of a table.

    ``snapshot`` and ``table_rows`` are the table's snapshot id (None without a table) and row count after the build;
    ``bytes_read`` counts archive bytes, ``bytes_written`` bytes of table files. ``quality`` (QUALITY_SCHEMA) has
    the results of the periods that were written or whose results changed. ``outdated`` lists periods of the table
    that were written by an earlier schema revision, which read the same files differently.
    """

    table: str
    periods: tuple[PeriodBuild, ...]
    snapshot: str | None
    table_rows: int
    seconds: float
    bytes_read: int
    bytes_written: int
    quality: pl.DataFrame = field(repr=False)
    outdated: tuple[str, ...] = ()

    def total(self, state: BuildState) -> int:
        """The number of periods in a state."""
        return sum(period.state is state for period in self.periods)
