"""What a build of a table did, per period."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl


class BuildState(StrEnum):
    """``written``: the period's rows were replaced. ``unchanged``: they are of the same content already.
    ``empty``: the lake holds no archive of it. ``blocked``: a file is quarantined or missing, and the matrix
    says block. ``failed``: an archive could not be fetched. The last three leave the table's rows as they were."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    EMPTY = "empty"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Problem:
    """An archive object that the table does without. ``use`` is quarantined or missing; ``filled`` says
    whether a monthly object stands in for it."""

    key: str
    symbol: str
    interval: str | None
    use: str
    reason: str
    filled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodBuild:
    """One period: ``rows`` are the table's after the build; ``daily`` and ``monthly`` count the archive objects
    that they are of. ``content`` is the digest of these, None where the lake holds none."""

    period: str
    state: BuildState
    rows: int = 0
    daily: int = 0
    monthly: int = 0
    troubles: tuple[Problem, ...] = ()
    content: str | None = None
    reason: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the table has all of the period that it is to have."""
        return self.state in {BuildState.WRITTEN, BuildState.UNCHANGED}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """A whole build. ``snapshot`` is the id of the table after it (None where there is no table) and ``table_rows``
    its rows; ``bytes_read`` are of archives, ``bytes_written`` of the table's files; ``quality`` has a row per
    period, symbol and interval that was written (QUALITY_SCHEMA). ``outdated`` are periods of the whole table that
    a version before made, and read otherwise."""

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
        """Number of periods in a state."""
        return sum(period.state is state for period in self.periods)
